//! What one agent made reaches the homes of its bodies, whatever goes wrong in between.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use meridian_cache::{
    prefetch::Holder,
    write_back::{Home, Homes, Queue, Uploader},
};

use crate::pair::{Place, bodies, channel};

struct Only(Vec<SocketAddr>);

impl Homes for Only {
    fn homes(&self) -> Vec<Home> {
        let home = |address: &SocketAddr| Home {
            holder: Holder::new(address.to_string(), channel(*address)),
            takes: Arc::new(|_| true),
        };
        self.0.iter().map(home).collect()
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
