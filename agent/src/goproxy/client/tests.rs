use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;

fn install_crypto() {
    // Another test of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A proxy that answers each connection with the next prepared bytes, and closes it.
async fn fake(answers: Vec<String>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            log.lock().unwrap().push(String::from_utf8(head).unwrap());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (address, asked)
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

async fn download(proxies: &str) -> Result<String, ProxyError> {
    install_crypto();
    let client = ProxyClient::new(proxies.parse().unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let mut file = File::create(&path).await.unwrap();
    client.download(("a.test/M", "v1.0.0", "zip"), 1000, &mut file, &|_, _| {}).await?;
    Ok(std::fs::read_to_string(path).unwrap())
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_stopped() {
    let broken = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123".to_owned();
    let rest =
        "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 4-9/10\r\ncontent-length: 6\r\n\r\n456789";
    let (proxy, asked) = fake(vec![broken, rest.to_owned()]).await;
    assert_eq!(download(&proxy).await.unwrap(), "0123456789");
    let asked = asked.lock().unwrap();
    assert!(asked[0].starts_with("GET /a.test/!m/@v/v1.0.0.zip "));
    assert!(asked[1].contains("range: bytes=4-"), "{}", asked[1]);
}

#[tokio::test]
async fn a_server_that_ignores_the_range_starts_the_file_again() {
    let broken = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123".to_owned();
    let (proxy, _) = fake(vec![broken, answer("200 OK", "abcdefghij")]).await;
    assert_eq!(download(&proxy).await.unwrap(), "abcdefghij");
}

#[tokio::test]
async fn not_found_passes_a_comma_and_a_refusal_does_not() {
    let (empty, _) = fake(vec![answer("404 Not Found", "no such thing")]).await;
    let (full, _) = fake(vec![answer("200 OK", "found")]).await;
    assert_eq!(download(&format!("{empty},{full}")).await.unwrap(), "found");

    let (closed, _) = fake(vec![answer("403 Forbidden", "ask the platform team")]).await;
    let error = download(&format!("{closed},{full}")).await.unwrap_err();
    assert!(error.to_string().contains("ask the platform team"), "{error}");
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
}

#[tokio::test]
async fn any_failure_passes_a_bar() {
    let (closed, _) = fake(vec![answer("403 Forbidden", "")]).await;
    let (full, _) = fake(vec![answer("200 OK", "found")]).await;
    assert_eq!(download(&format!("{closed}|{full}")).await.unwrap(), "found");
}

#[tokio::test]
async fn a_proxy_that_has_nothing_is_quoted() {
    let (empty, _) = fake(vec![answer("404 Not Found", "not found: unknown revision")]).await;
    let error = download(&empty).await.unwrap_err();
    assert!(matches!(&error, ProxyError::NotFound { words, .. } if words == "not found: unknown revision"));
}

#[tokio::test]
async fn a_file_over_the_limit_is_given_up() {
    let (proxy, _) = fake(vec![answer("200 OK", &"x".repeat(2000))]).await;
    assert!(matches!(download(&proxy).await.unwrap_err(), ProxyError::TooLarge { .. }));
}

#[tokio::test]
async fn off_and_a_directory_are_understood() {
    assert!(matches!(download("off").await.unwrap_err(), ProxyError::NoProxy(..)));
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("a.test/!m/@v");
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join("v1.0.0.zip"), "local").unwrap();
    assert_eq!(download(&format!("file://{}", dir.path().display())).await.unwrap(), "local");
}

#[tokio::test]
async fn progress_tells_how_much_is_expected() {
    install_crypto();
    let (proxy, _) = fake(vec![answer("200 OK", "found")]).await;
    let client = ProxyClient::new(proxy.parse().unwrap()).unwrap();
    let mut file = File::from_std(tempfile::tempfile().unwrap());
    let seen = AtomicU32::new(0);
    let hear = |done: u64, total: u64| {
        assert_eq!((done, total), (5, 5));
        seen.fetch_add(1, Ordering::Relaxed);
    };
    client.download(("a.test/M", "v1.0.0", "zip"), 1000, &mut file, &hear).await.unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), 1);
}
