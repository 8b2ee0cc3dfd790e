//! What a command says and how it ends when something around it is not as it should be: a directory that cannot
//! be written, a source that is too large, an answer that nobody takes, a signal in the middle.

use std::{fs, path::PathBuf};

use meridian_integration::{client::Client, fixture::program::Program, home::Home};

const REFUSED: i32 = 3;

fn write(client: &Client, name: &str, program: &Program) -> PathBuf {
    let directory = client.home.path().join(name);
    program.write(&directory).expect("a fresh directory can be written");
    directory
}

#[test]
fn a_file_that_no_source_may_hold_is_refused_by_name_before_it_is_read() {
    let client = Client::local(Home::with_proxy("off"));
    let source = write(&client, "source", &Program::saying("example.test/p", "p"));
    let huge = fs::File::create(source.join("huge.bin")).expect("a file can be made");
    huge.set_len(5 << 30).expect("a sparse file");
    client
        .build(&[&source.display().to_string(), "--version", "1"])
        .expect_failure(REFUSED, &["huge.bin", "5.0 GiB", "2.0 GiB", "git ignores"]);
}
