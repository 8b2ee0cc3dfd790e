//! cmd/go's side of GOCACHEPROG, strict: it panics on an answer that it did not ask for.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::LazyLock,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use meridian_core::digest::Digest;
use serde_json::{Value, json};

/// The shim as a program. Cargo builds examples beside tests only when it is asked for neither, so it is
/// built here, which takes a moment when it is there already.
pub(crate) fn shim_program() -> &'static Path {
    static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", env!("CARGO_PKG_NAME"), "--example", "cacheprog"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .unwrap();
        assert!(built.success());
        let test = std::env::current_exe().unwrap();
        test.parent().unwrap().parent().unwrap().join("examples").join("cacheprog")
    });
    &PROGRAM
}

pub(crate) struct Driver {
    pub(crate) child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    next: i64,
    open: HashSet<i64>,
}

impl Driver {
    pub(crate) fn start(socket: &Path, temp: &Path) -> Self {
        let mut child = Command::new(shim_program())
            .arg("--socket")
            .arg(socket)
            .env("TMPDIR", temp)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut driver = Self { child, input, output, next: 0, open: HashSet::from([0]) };
        let hello = driver.answer();
        assert_eq!(hello["KnownCommands"], json!(["get", "put", "close"]));
        driver
    }

    pub(crate) fn send(&mut self, mut request: Value, body: Option<&[u8]>) -> i64 {
        self.next += 1;
        request["ID"] = self.next.into();
        let mut text = format!("{request}\n\n").into_bytes();
        if let Some(body) = body.filter(|body| !body.is_empty()) {
            text.push(b'"');
            text.extend_from_slice(STANDARD.encode(body).as_bytes());
            text.extend_from_slice(b"\"\n");
        }
        self.open.insert(self.next);
        self.input.as_mut().unwrap().write_all(&text).unwrap();
        self.next
    }

    pub(crate) fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let value: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        assert!(self.open.remove(&value["ID"].as_i64().unwrap()), "nobody asked for {line}");
        value
    }

    pub(crate) fn send_get(&mut self, action: &str) -> i64 {
        self.send(json!({"Command": "get", "ActionID": id_of(action)}), None)
    }

    pub(crate) fn send_put(&mut self, action: &str, body: &[u8]) -> i64 {
        let output = STANDARD.encode(Digest::of(body).as_bytes());
        let request =
            json!({"Command": "put", "ActionID": id_of(action), "OutputID": output, "BodySize": body.len()});
        self.send(request, Some(body))
    }

    /// Puts and checks that the path holds the body.
    pub(crate) fn put(&mut self, action: &str, body: &[u8]) -> PathBuf {
        self.send_put(action, body);
        let answer = self.answer();
        assert_eq!(answer["Err"], Value::Null);
        let path = PathBuf::from(answer["DiskPath"].as_str().unwrap());
        assert!(std::fs::read(&path).unwrap() == body, "{}", path.display());
        assert_eq!(path.extension(), None);
        path
    }

    /// Gets, and checks that a hit is whole and says so.
    pub(crate) fn get(&mut self, action: &str) -> Option<Vec<u8>> {
        self.get_at_once(&[action]).remove(0)
    }

    /// The same for several, of which none waits for the answer to another.
    pub(crate) fn get_at_once(&mut self, actions: &[&str]) -> Vec<Option<Vec<u8>>> {
        let first = self.next + 1;
        for action in actions {
            self.send_get(action);
        }
        let mut found = vec![None; actions.len()];
        for _ in actions {
            let answer = self.answer();
            let place = usize::try_from(answer["ID"].as_i64().unwrap() - first).unwrap();
            found[place] = whole_body(&answer);
        }
        found
    }

    /// Ends it well; gives what it told whoever reads the build's log.
    pub(crate) fn close(mut self) -> String {
        let id = self.send(json!({"Command": "close"}), None);
        while self.answer()["ID"] != id {}
        assert_eq!(self.open, HashSet::new());
        let mut told = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        assert!(self.child.wait().unwrap().success());
        told
    }

    /// Closes standard input without a word, as a killed cmd/go does.
    pub(crate) fn vanish(mut self) {
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The body of a hit, which must be what the answer says.
fn whole_body(answer: &Value) -> Option<Vec<u8>> {
    if answer["Miss"] == true {
        return None;
    }
    let body = std::fs::read(answer["DiskPath"].as_str().unwrap()).unwrap();
    assert_eq!(answer["OutputID"], STANDARD.encode(Digest::of(&body).as_bytes()));
    assert_eq!(answer["Size"], body.len());
    assert!(answer["Time"].as_str().unwrap().ends_with('Z'));
    Some(body)
}

fn id_of(action: &str) -> String {
    STANDARD.encode(Digest::of(action.as_bytes()).as_bytes())
}
