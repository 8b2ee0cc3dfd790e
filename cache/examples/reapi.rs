//! The remote execution API's cache by itself, for stock clients by hand and for tests that start one.
//!
//! `reapi DIR ADDR [TOKENS [CERTIFICATES KEY]]` opens the cache in DIR, prints the address it listens on, and serves
//! until its standard input ends. Without a file of tokens everybody on this machine may read and write every instance.

use std::{
    io::{Read as _, Write as _},
    path::Path,
    process::ExitCode,
    sync::Arc,
};

use meridian_cache::reapi::{
    Admission, Authority, Caller, ContentConfig, Instance, Reapi, ReapiError, StockListener, StockTls,
    TokenTable,
};
use meridian_core::quantity::ByteCount;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let served = match arguments[..] {
        [dir, addr] => serve(dir, addr, None, None),
        [dir, addr, tokens] => serve(dir, addr, Some(tokens), None),
        [dir, addr, tokens, certificates, key] => {
            let tls = StockTls { certificates: certificates.into(), key: key.into() };
            serve(dir, addr, Some(tokens), Some(tls))
        }
        _ => Err("usage: reapi DIR ADDR [TOKENS [CERTIFICATES KEY]]".into()),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn everybody(_: Caller<'_>, instance: &Instance) -> Result<Admission, ReapiError> {
    Ok(Admission { scope: instance.clone(), may_write: true })
}

fn serve(
    dir: &str,
    addr: &str,
    tokens: Option<&str>,
    tls: Option<StockTls>,
) -> Result<(), Box<dyn std::error::Error>> {
    let authority: Arc<dyn Authority> = match tokens {
        Some(tokens) => Arc::new(TokenTable::load(Path::new(tokens))?),
        None => Arc::new(everybody),
    };
    let capacity = std::env::var("REAPI_CAPACITY_MIB").ok().and_then(|text| text.parse().ok());
    let config = ContentConfig {
        capacity: capacity.map_or(ByteCount::gib(20), ByteCount::mib),
        ..ContentConfig::default()
    };
    let addr = addr.parse()?;
    let reapi = Reapi::open(Path::new(dir), config, authority)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = StockListener::bind(addr, tls.as_ref()).await?;
        println!("{}", listener.local_addr());
        std::io::stdout().flush()?;
        let stop = tokio::task::spawn_blocking(|| drop(std::io::stdin().read_to_end(&mut Vec::new())));
        listener.serve(&reapi, async move { drop(stop.await) }).await?;
        Ok(())
    })
}
