//! Each end of every call hears which membership the other knows.

use std::sync::{Arc, Mutex};

use meridian_cache::{
    prefetch::Supply,
    shard::Membership,
    write_back::{Home, Homes, Queue, Uploader},
};
use meridian_core::{cache::shards::ShardEpoch, id::Epoch};

use crate::{
    pair::{Place, bodies, holder},
    write_back::until_empty,
};

/// Knows a membership, and remembers what others name.
struct Known {
    change: u64,
    heard: Mutex<Vec<u64>>,
}

impl Known {
    fn new(change: u64) -> Arc<Self> {
        Arc::new(Self { change, heard: Mutex::default() })
    }

    /// What was heard since this was last asked.
    fn heard(&self) -> Vec<u64> {
        std::mem::take(&mut self.heard.lock().unwrap())
    }
}

impl Membership for Known {
    fn epoch(&self) -> ShardEpoch {
        ShardEpoch { leader: Epoch(3), change: self.change }
    }

    fn heard(&self, named: ShardEpoch) {
        self.heard.lock().unwrap().push(named.change);
    }
}

struct Only(Home);

impl Homes for Only {
    fn homes(&self) -> Option<Vec<Home>> {
        Some(vec![self.0.clone()])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_agents_tell_each_other_which_membership_they_know_and_serve_each_other_all_the_same() {
    let (near, far) = (Place::new(), Place::new());
    let signed = near.build(&bodies()).await;
    let (newer, older) = (Known::new(9), Known::new(4));
    let serving = near.serve_within(newer.clone()).await;
    let holder = || holder(&serving.address).within(older.clone());

    let prefetch = far.prefetch_from(&signed, vec![holder()]);
    assert_eq!(prefetch.ended().await.bodies, 4);
    assert_eq!((newer.heard(), older.heard()), (vec![4], vec![9]), "fetch");

    let mut seeking = far.seeking(&[]);
    seeking.shards = vec![holder()];
    let task = far.supplied(Supply::new(None, Some(seeking)));
    let mut driver = far.driver(&task);
    assert_eq!(driver.get("nobody has it"), None);
    driver.close();
    assert_eq!((newer.heard(), older.heard()), (vec![4], vec![9]), "discover");

    let queue = Arc::new(Queue::open(&far.dir.path().join("queue")).unwrap());
    queue.push(far.build(&[("more", b"more".to_vec())]).await.digest);
    let uploader = Uploader {
        queue: Arc::clone(&queue),
        store: Arc::clone(&far.store),
        vouching: Arc::clone(&far.team) as _,
        homes: Arc::new(Only(Home { holder: holder(), takes: Arc::new(|_| true) })),
        outside: None,
    };
    let uploading = tokio::spawn(uploader.run());
    until_empty(&queue).await;
    uploading.abort();
    assert_eq!((newer.heard(), older.heard()), (vec![4], vec![9]), "publish");
}
