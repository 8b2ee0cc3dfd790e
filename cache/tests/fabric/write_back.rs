//! What one agent made reaches the homes of its bodies, whatever goes wrong in between.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use meridian_cache::{
    prefetch::Holder,
    write_back::{Home, Homes, Queue, Uploader},
};

use tokio::sync::Notify;

use crate::pair::{Place, Trickle, bodies, channel};

/// A manifest of some entries with all that is said around it: less than the smallest body that would be noticed.
const A_MANIFEST_MAX: u64 = 16 << 10;

struct Only(Vec<SocketAddr>);

impl Homes for Only {
    fn homes(&self) -> Option<Vec<Home>> {
        let home = |address: &SocketAddr| Home {
            holder: Holder::new(address.to_string(), channel(*address)),
            takes: Arc::new(|_| true),
        };
        Some(self.0.iter().map(home).collect())
    }
}

fn uploader(place: &Place, queue: &Arc<Queue>, homes: &[SocketAddr]) -> Uploader {
    Uploader {
        queue: Arc::clone(queue),
        store: Arc::clone(&place.store),
        vouching: Arc::clone(&place.team) as _,
        homes: Arc::new(Only(homes.to_vec())),
        outside: None,
    }
}

async fn until_empty(queue: &Queue) {
    let emptied = async {
        while !queue.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), emptied).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_built_reaches_its_home_and_answers_there() {
    let (maker, home) = (Place::new(), Place::new());
    let serving = home.serve().await;
    let queue = Arc::new(Queue::open(&maker.dir.path().join("queue")).unwrap());
    let signed = maker.build(&bodies()).await;
    queue.push(signed.digest);
    let uploading = tokio::spawn(uploader(&maker, &queue, &[serving.address]).run());
    until_empty(&queue).await;
    uploading.abort();
    assert_eq!(home.store.library().names(), [signed.digest]);
    let task = home.task(None);
    let mut driver = home.driver(&task);
    for (action, body) in bodies() {
        assert_eq!(driver.get(action), Some(body), "{action}");
    }
    driver.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_second_manifest_with_the_same_bodies_only_the_manifest_is_sent() {
    let (maker, home) = (Place::new(), Place::new());
    let serving = home.serve().await;
    let way = Trickle::before(serving.address).await;
    let queue = Arc::new(Queue::open(&maker.dir.path().join("queue")).unwrap());
    let uploading = tokio::spawn(uploader(&maker, &queue, &[way.address]).run());
    let first = maker.build(&bodies()).await;
    queue.push(first.digest);
    until_empty(&queue).await;
    let all: usize = bodies().iter().map(|(_, body)| body.len()).sum();
    let sent = way.asked();
    assert!(sent > all as u64 / 2, "{sent} bytes of {all}");

    // The same bodies under another name, as another package asks for them.
    let renamed =
        bodies().into_iter().map(|(action, body)| (if action == "large" { "other" } else { action }, body));
    let second = maker.build(&renamed.collect::<Vec<_>>()).await;
    assert_ne!(second.digest, first.digest);
    queue.push(second.digest);
    until_empty(&queue).await;
    uploading.abort();
    assert!(home.store.library().names().contains(&second.digest), "it is told all the same");
    let more = way.asked() - sent;
    assert!(more < A_MANIFEST_MAX, "{more} bytes after {sent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_is_away_is_tried_again_after_a_restart_of_the_maker() {
    let (maker, home) = (Place::new(), Place::new());
    let gone = home.serve().await.address;
    let path = maker.dir.path().join("queue");
    let queue = Arc::new(Queue::open(&path).unwrap());
    let signed = maker.build(&bodies()).await;
    queue.push(signed.digest);
    let uploading = tokio::spawn(uploader(&maker, &queue, &[gone]).run());
    // The other end is refused at once; then the process ends.
    tokio::time::timeout(Duration::from_millis(500), uploading).await.unwrap_err();
    let queue = Arc::new(Queue::open(&path).unwrap());
    assert_eq!(queue.len(), 1);
    let serving = home.serve().await;
    let uploading = tokio::spawn(uploader(&maker, &queue, &[serving.address]).run());
    until_empty(&queue).await;
    uploading.abort();
    assert_eq!(home.store.library().names(), [signed.digest]);
}

/// Knows no membership until it is told one, as an agent that has just started.
#[derive(Default)]
struct Later(Mutex<Option<SocketAddr>>, Notify);

impl Homes for Later {
    fn homes(&self) -> Option<Vec<Home>> {
        self.1.notify_one();
        let home = (*self.0.lock().unwrap())?;
        Only(vec![home]).homes()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_kept_while_nobody_knows_yet_whose_homes_are_where() {
    let (maker, home) = (Place::new(), Place::new());
    let serving = home.serve().await;
    let queue = Arc::new(Queue::open(&maker.dir.path().join("queue")).unwrap());
    let signed = maker.build(&bodies()).await;
    queue.push(signed.digest);
    let homes = Arc::new(Later::default());
    let uploader = Uploader { homes: homes.clone(), ..uploader(&maker, &queue, &[]) };
    let uploading = tokio::spawn(uploader.run());
    homes.1.notified().await;
    assert_eq!(queue.len(), 1);
    *homes.0.lock().unwrap() = Some(serving.address);
    until_empty(&queue).await;
    uploading.abort();
    assert_eq!(home.store.library().names(), [signed.digest]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_is_away_for_so_long_that_it_is_none_is_brought_what_it_missed_once_it_is_back() {
    let (maker, home) = (Place::new(), Place::new());
    let gone = home.serve().await.address;
    let queue = Arc::new(Queue::open(&maker.dir.path().join("queue")).unwrap());
    let signed = maker.build(&bodies()).await;
    queue.push(signed.digest);
    let homes = Arc::new(Changing(Mutex::new(vec![gone]), Notify::new()));
    let uploader = Uploader { homes: homes.clone(), ..uploader(&maker, &queue, &[]) };
    let uploading = tokio::spawn(uploader.run());
    homes.1.notified().await;
    // The first try fails; for the second there is no home at all.
    homes.0.lock().unwrap().clear();
    homes.1.notified().await;
    let serving = home.serve_at(gone).await;
    homes.0.lock().unwrap().push(gone);
    until_empty(&queue).await;
    uploading.abort();
    assert_eq!(home.store.library().names(), [signed.digest]);
    drop(serving);
}

/// Homes that come and go.
struct Changing(Mutex<Vec<SocketAddr>>, Notify);

impl Homes for Changing {
    fn homes(&self) -> Option<Vec<Home>> {
        let homes = Only(self.0.lock().unwrap().clone()).homes();
        self.1.notify_one();
        homes
    }
}
