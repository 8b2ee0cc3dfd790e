//! What goes wrong on the way makes a build slower, never wrong and never failed.

use std::time::Instant;

use tokio::net::TcpListener;

use crate::pair::{Place, bodies, flip};

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_accepts_and_never_answers_costs_one_bounded_wait() {
    let (near, far) = (Place::new(), Place::new());
    let signed = near.build(&bodies()).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let prefetch = far.prefetch(&signed, &[silent.local_addr().unwrap()]);
    let task = far.task(Some(&prefetch));
    let mut driver = far.driver(&task);
    let begun = Instant::now();
    for (action, body) in bodies() {
        assert_eq!(driver.get(action), None);
        driver.put(action, &body);
    }
    driver.close();
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_holder_is_passed_over_for_the_next_one() {
    let (near, far) = (Place::new(), Place::new());
    let signed = near.build(&bodies()).await;
    let gone = near.serve().await.address;
    let serving = near.serve().await;
    let prefetch = far.prefetch(&signed, &[gone, serving.address]);
    assert_eq!(prefetch.ended().await.bodies, 4);
    assert!(prefetch.arrivals().is_whole());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_rotted_at_its_holder_is_not_sent_and_the_rest_is() {
    let (near, far) = (Place::new(), Place::new());
    let signed = near.build(&bodies()).await;
    std::fs::remove_dir_all(near.dir.path().join("cache/frames")).unwrap();
    std::fs::create_dir(near.dir.path().join("cache/frames")).unwrap();
    flip(&near.body_path(&bodies()[1].1));
    let serving = near.serve().await;
    let prefetch = far.prefetch(&signed, &[serving.address]);
    let figures = prefetch.ended().await;
    assert_eq!((figures.bodies, figures.refused), (3, 0), "{figures:?}");
    let task = far.task(Some(&prefetch));
    let mut driver = far.driver(&task);
    assert_eq!(driver.get("archive"), None);
    assert_eq!(driver.get("large"), Some(bodies()[3].1.clone()));
    driver.close();
}
