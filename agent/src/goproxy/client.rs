//! Downloads one file of a module from the first proxy that has it.

use std::{error::Error as _, io, path::Path, time::Duration};

use reqwest::{StatusCode, header};
use tokio::{
    fs::File,
    io::{AsyncSeekExt as _, AsyncWriteExt as _},
};

use meridian_core::golang::module_path::{PathError, escape_path, escape_version};

use super::list::{ProxyEntry, ProxyList};

/// How long a connection may take to come up.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long a proxy may stay silent. A first byte may take long where the proxy fetches from its own origin.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// How often one proxy is asked for one file: first, and again after the connection broke.
const TRIES_MAX: u32 = 5;
/// The wait before the second try; each later one is twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// Most bytes of a server's words that are shown.
const WORDS_LEN_MAX: usize = 1024;

/// Asks module proxies.
#[derive(Debug, Clone)]
pub struct ProxyClient {
    http: reqwest::Client,
    proxies: ProxyList,
}

/// Why a file could not be downloaded.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// Every proxy that could be asked does not have it.
    #[error("{file} not found: {words} (asked {tried})")]
    NotFound {
        /// The file's path on a proxy.
        file: String,
        /// The last proxy's own words.
        words: String,
        /// Who was asked.
        tried: String,
    },
    /// A proxy refused.
    #[error("{host} answered {status} for {file}: {words}")]
    Refused {
        /// Who.
        host: String,
        /// Its status line.
        status: String,
        /// The file's path on it.
        file: String,
        /// Its own words.
        words: String,
    },
    /// A proxy could not be reached, or the connection broke again and again.
    #[error("cannot download {file} from {host} after {tries} tries: {cause} (GOPROXY is {proxies})")]
    Unreachable {
        /// Who.
        host: String,
        /// The file's path on it.
        file: String,
        /// How often it was tried.
        tries: u32,
        /// What went wrong the last time.
        cause: String,
        /// All of GOPROXY, without passwords.
        proxies: String,
    },
    /// GOPROXY says `off` or only `direct`.
    #[error("GOPROXY={0} names no module proxy, and {1} can only be had from one")]
    NoProxy(String, String),
    /// It is larger than it may be.
    #[error("{file} of {host} is larger than {max} bytes")]
    TooLarge {
        /// Who sent it.
        host: String,
        /// The file's path.
        file: String,
        /// The limit.
        max: u64,
    },
    /// The module or version cannot be asked for.
    #[error("{0}")]
    Name(String),
    /// The client could not be set up.
    #[error("cannot set up the proxy client: {0}")]
    Setup(String),
    /// The bytes could not be kept.
    #[error("cannot write the download: {0}")]
    Local(#[from] io::Error),
}

/// How asking one proxy ended, when not well.
enum Miss {
    NotFound(String),
    Failed(ProxyError),
}

impl ProxyClient {
    /// A client for `proxies`. The process must have a TLS provider installed.
    ///
    /// # Errors
    /// When the system's certificates cannot be used.
    pub fn new(proxies: ProxyList) -> Result<Self, ProxyError> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_MAX)
            .read_timeout(IDLE_MAX)
            .user_agent(concat!("meridian/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ProxyError::Setup(chain(&error)))?;
        Ok(Self { http, proxies })
    }

    /// Downloads `MODULE/@v/VERSION.EXT` into `file`, which is emptied first. `on_bytes` hears how many bytes
    /// have arrived and how many are expected (0 when the server does not say).
    ///
    /// # Errors
    /// When no proxy gives the file, it is larger than `max`, or `file` cannot be written.
    pub async fn download(
        &self,
        (module, version, ext): (&str, &str, &str),
        max: u64,
        file: &mut File,
        on_bytes: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<(), ProxyError> {
        let bad = |error: PathError| ProxyError::Name(error.to_string());
        let (module_path, file_name) =
            (escape_path(module).map_err(bad)?, escape_version(version).map_err(bad)?);
        let path = format!("{module_path}/@v/{file_name}.{ext}");
        let mut asked = Vec::new();
        let mut words = String::new();
        let mut failure = None;
        for (entry, any) in self.proxies.entries() {
            let outcome = match entry {
                ProxyEntry::Url(url) => self.ask(url, &path, max, file, on_bytes).await,
                ProxyEntry::Directory(dir) => copy_from_directory(&dir.join(&path), file).await,
                ProxyEntry::Direct | ProxyEntry::Off => break,
            };
            asked.push(entry.shown());
            match outcome {
                Ok(()) => return Ok(()),
                Err(Miss::NotFound(said)) => words = said,
                Err(Miss::Failed(error @ ProxyError::Local(_))) => return Err(error),
                Err(Miss::Failed(error)) if !any => return Err(error),
                Err(Miss::Failed(error)) => failure = Some(error),
            }
        }
        if asked.is_empty() {
            return Err(ProxyError::NoProxy(self.proxies.shown(), format!("{module}@{version}")));
        }
        // A proxy that could not answer may well have it, so its trouble says more than another's "not found".
        Err(failure.unwrap_or(ProxyError::NotFound { file: path, words, tried: asked.join(", ") }))
    }

    async fn ask(
        &self,
        base: &str,
        path: &str,
        max: u64,
        file: &mut File,
        on_bytes: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<(), Miss> {
        let url = format!("{base}/{path}");
        let host = host_of(base);
        let mut got = 0;
        let mut pause = PAUSE_FIRST;
        let mut cause = String::new();
        for attempt in 0..TRIES_MAX {
            if attempt > 0 {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            match self.once(&url, &host, path, max, file, &mut got, on_bytes).await? {
                Once::Done => return Ok(()),
                Once::Broken(why) => cause = why,
            }
        }
        Err(Miss::Failed(ProxyError::Unreachable {
            host,
            file: path.to_owned(),
            tries: TRIES_MAX,
            cause,
            proxies: self.proxies.shown(),
        }))
    }

    #[expect(clippy::too_many_arguments, reason = "one try of the loop above, with the loop's own state")]
    async fn once(
        &self,
        url: &str,
        host: &str,
        path: &str,
        max: u64,
        file: &mut File,
        got: &mut u64,
        on_bytes: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<Once, Miss> {
        let mut request = self.http.get(url);
        if *got > 0 {
            request = request.header(header::RANGE, format!("bytes={got}-"));
        }
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Ok(Once::Broken(chain(&error))),
        };
        match response.status() {
            StatusCode::OK => *got = 0,
            StatusCode::PARTIAL_CONTENT if *got > 0 && continues(&response, *got) => {}
            StatusCode::NOT_FOUND | StatusCode::GONE => return Err(Miss::NotFound(words_of(response).await)),
            // Ours, not the server's: what it has is shorter than what we hold, so begin again.
            StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PARTIAL_CONTENT => {
                *got = 0;
                return Ok(Once::Broken("the server's file changed during the download".into()));
            }
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                return Ok(Once::Broken(format!("{status}: {}", words_of(response).await)));
            }
            status => {
                return Err(Miss::Failed(ProxyError::Refused {
                    host: host.to_owned(),
                    status: status.to_string(),
                    file: path.to_owned(),
                    words: words_of(response).await,
                }));
            }
        }
        let total = response.content_length().map_or(0, |rest| rest.saturating_add(*got));
        file.set_len(*got).await.map_err(|error| Miss::Failed(error.into()))?;
        file.seek(io::SeekFrom::Start(*got)).await.map_err(|error| Miss::Failed(error.into()))?;
        loop {
            let piece = match response.chunk().await {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(error) => {
                    // What was written so far is kept, so that the next try can go on from there.
                    file.flush().await.map_err(|error| Miss::Failed(error.into()))?;
                    return Ok(Once::Broken(chain(&error)));
                }
            };
            *got += piece.len() as u64;
            if *got > max {
                let (host, file) = (host.to_owned(), path.to_owned());
                return Err(Miss::Failed(ProxyError::TooLarge { host, file, max }));
            }
            file.write_all(&piece).await.map_err(|error| Miss::Failed(error.into()))?;
            on_bytes(*got, total);
        }
        file.flush().await.map_err(|error| Miss::Failed(error.into()))?;
        Ok(Once::Done)
    }
}

/// How one try ended.
enum Once {
    Done,
    Broken(String),
}

fn continues(response: &reqwest::Response, from: u64) -> bool {
    let range = response.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {from}-")))
}

async fn words_of(mut response: reqwest::Response) -> String {
    let mut words = Vec::new();
    while words.len() < WORDS_LEN_MAX {
        match response.chunk().await {
            Ok(Some(piece)) => words.extend_from_slice(&piece),
            Ok(None) | Err(_) => break,
        }
    }
    words.truncate(WORDS_LEN_MAX);
    let text = String::from_utf8_lossy(&words);
    text.trim().chars().filter(|c| !c.is_control() || *c == '\n').collect()
}

async fn copy_from_directory(path: &Path, file: &mut File) -> Result<(), Miss> {
    let mut source = match File::open(path).await {
        Ok(source) => source,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Miss::NotFound(format!("{}: {error}", path.display())));
        }
        Err(error) => return Err(Miss::Failed(error.into())),
    };
    let copy = async {
        file.set_len(0).await?;
        file.rewind().await?;
        tokio::io::copy(&mut source, file).await?;
        file.flush().await
    };
    copy.await.map_err(|error| Miss::Failed(error.into()))
}

fn host_of(base: &str) -> String {
    match reqwest::Url::parse(base) {
        Ok(url) => match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (Some(host), None) => host.to_owned(),
            (None, _) => base.to_owned(),
        },
        Err(_) => base.to_owned(),
    }
}

/// An error with all its causes. The URL is left out: it may hold a password.
fn chain(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() { "timed out".to_owned() } else { String::new() };
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&said);
        }
        cause = inner.source();
    }
    if text.is_empty() { "the request failed".into() } else { text }
}

#[cfg(test)]
mod tests;
