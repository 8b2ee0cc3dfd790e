//! The relay as tests and benches hold it.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::net::sockopt::{set_socket_linger, set_socket_recv_buffer_size};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};

use super::{
    link::Link,
    pump::pump,
    shape::{Shape, Way},
    tally::Traffic,
};

/// How long to wait after an accept that failed, when this process has no descriptor left.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// How much a narrow link may hold of what it has not taken in.
const NARROW_BUFFER_LEN: usize = 256 << 10;

/// A link to one server, with a thread of its own. It ends, with all its connections, when dropped.
///
/// Bytes leave at the next tick of a millisecond after they are due, and never before.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    link: Arc<Link>,
    /// Links of their own, by who connects.
    links_from: BTreeMap<IpAddr, Arc<Link>>,
    runtime: Option<Runtime>,
}

impl Relay {
    /// A link on 127.0.0.1 to `target`, which need not listen yet.
    ///
    /// # Panics
    /// When loopback cannot be listened on.
    #[must_use]
    pub fn start(target: SocketAddr, shape: Shape) -> Self {
        Self::start_on(Ipv4Addr::LOCALHOST.into(), target, shape)
    }

    /// The same on another address of this machine, for programs that make something special of 127.0.0.1.
    ///
    /// # Panics
    /// When that address cannot be listened on.
    #[must_use]
    pub fn start_on(ip: IpAddr, target: SocketAddr, shape: Shape) -> Self {
        Self::start_between(ip, target, shape, BTreeMap::new())
    }

    /// The same, where some are elsewhere than others: who connects from one of these addresses has a link of that shape, and
    /// with nobody else. All that concerns the link below is about the others'.
    ///
    /// # Panics
    /// When that address cannot be listened on.
    #[must_use]
    pub fn start_between(
        ip: IpAddr,
        target: SocketAddr,
        shape: Shape,
        shapes_from: BTreeMap<IpAddr, Shape>,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("relay")
            .enable_all()
            .build()
            .expect("a runtime for a relay");
        let listener = runtime.block_on(TcpListener::bind((ip, 0))).expect("a port on loopback");
        let address = listener.local_addr().expect("a bound listener has an address");
        let link = Arc::new(Link::new(target, shape));
        let links_from: BTreeMap<_, _> =
            shapes_from.into_iter().map(|(from, shape)| (from, Arc::new(Link::new(target, shape)))).collect();
        runtime.spawn(serve(listener, Arc::clone(&link), links_from.clone()));
        Self { address, link, links_from, runtime: Some(runtime) }
    }

    /// Where clients connect.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes it another link from now on. What is under way arrives when it would have.
    pub fn reshape(&self, shape: Shape) {
        self.link.reshape(shape);
    }

    /// Lets nothing pass from now on: connections are accepted and never answered.
    pub fn blackhole(&self) {
        self.link.trouble.send_modify(|trouble| trouble.is_blackholed = true);
    }

    /// Ends a blackhole. What was said in it arrives late.
    pub fn mend(&self) {
        self.link.trouble.send_modify(|trouble| trouble.is_blackholed = false);
    }

    /// Resets every connection that is open.
    pub fn cut_connections(&self) {
        self.link.trouble.send_modify(|trouble| trouble.cuts += 1);
    }

    /// Flips a bit of the byte that comes after so many others in a direction, from now on.
    pub fn flip_bit(&self, way: Way, after_bytes: u64) {
        self.link.flip_bit(way, after_bytes);
    }

    /// How many bits it has flipped. One that was [asked for](Self::flip_bit) and whose byte never came is not among them.
    #[must_use]
    pub fn flipped_bits(&self) -> u64 {
        self.link.flipped()
    }

    /// What it has carried.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.link.traffic()
    }

    /// What it has carried for who connects from an address that has a link of its own; nothing for others.
    #[must_use]
    pub fn traffic_from(&self, from: IpAddr) -> Traffic {
        self.links_from.get(&from).map(|link| link.traffic()).unwrap_or_default()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // What is under way is nobody's concern any more.
            runtime.shutdown_background();
        }
    }
}

async fn serve(listener: TcpListener, others: Arc<Link>, links_from: BTreeMap<IpAddr, Arc<Link>>) {
    let mut number = 0;
    loop {
        let Ok((mut client, from)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
            continue;
        };
        number += 1;
        let link = Arc::clone(links_from.get(&from.ip()).unwrap_or(&others));
        link.opened();
        tokio::spawn(async move {
            let mut trouble = link.trouble.subscribe();
            let cuts = trouble.borrow_and_update().cuts;
            let is_cut = tokio::select! {
                // An end that failed has told its peer already, by closing.
                _ended = carry(&link, &mut client, number) => false,
                () = async { drop(trouble.wait_for(|trouble| trouble.cuts != cuts).await) } => true,
            };
            if is_cut {
                // Without lingering a close is a reset.
                let _closed_in_order = set_socket_linger(&client, Some(Duration::ZERO));
            }
        });
    }
}

/// Carries a connection from its handshake on, which takes a round trip.
async fn carry(link: &Link, client: &mut TcpStream, number: u64) -> io::Result<()> {
    let shape = link.shape();
    let open_at = Instant::now() + shape.round_trip();
    // The link is there as long as its connections are, so the sender is too.
    drop(link.trouble.subscribe().wait_for(|trouble| !trouble.is_blackholed).await);
    let mut server = TcpStream::connect(link.target).await?;
    for (end, way) in [(&*client, Way::Up), (&server, Way::Down)] {
        end.set_nodelay(true)?;
        if shape.bytes_per_s(way).is_some() {
            // What is narrow takes little in advance: otherwise a sender would give all it has to the buffers of
            // this machine, where nothing can overtake it.
            set_socket_recv_buffer_size(end, NARROW_BUFFER_LEN)?;
        }
    }
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    tokio::try_join!(
        pump(link, Way::Up, 2 * number, open_at, from_client, to_server),
        pump(link, Way::Down, 2 * number + 1, open_at, from_server, to_client),
    )
    .map(drop)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener as StdListener,
        sync::mpsc::{Receiver, channel},
        thread,
    };

    use super::*;

    /// A server that says back what it is told, and the connections that it got.
    fn echo() -> (SocketAddr, Receiver<()>) {
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, receiver) = channel();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if sender.send(()).is_err() {
                    return;
                }
                thread::spawn(move || io::copy(&mut &stream, &mut &stream));
            }
        });
        (address, receiver)
    }

    fn connect(address: SocketAddr) -> std::net::TcpStream {
        let stream = std::net::TcpStream::connect(address).unwrap();
        // So that what is broken fails.
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn exchange(stream: &mut std::net::TcpStream, text: &[u8]) -> Vec<u8> {
        stream.write_all(text).unwrap();
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer).unwrap();
        answer
    }

    #[test]
    fn an_exchange_takes_its_round_trip_and_a_hundred_at_once_take_no_more() {
        let (target, _seen) = echo();
        let round_trip = Duration::from_millis(200);
        let relay = Relay::start(target, Shape::with_round_trip(round_trip));
        let mut stream = connect(relay.address());
        let begun = Instant::now();
        assert_eq!(exchange(&mut stream, b"first"), b"first");
        assert!(begun.elapsed() >= 2 * round_trip, "a handshake comes before the first byte");
        let begun = Instant::now();
        for _ in 0..100 {
            stream.write_all(&[7; 50_000]).unwrap();
            thread::yield_now();
        }
        stream.read_exact(&mut vec![0; 100 * 50_000]).unwrap();
        let took = begun.elapsed();
        assert!((round_trip..10 * round_trip).contains(&took), "{took:?}");
        let traffic = relay.traffic();
        assert_eq!((traffic.up_bytes, traffic.down_bytes), (5_000_005, 5_000_005));
        // A sender that this machine holds up may be answered in two parts.
        let blocked = traffic.blocking_round_trips;
        assert!(traffic.connections == 1 && (2..10).contains(&blocked), "{traffic:?}");
    }

    #[test]
    fn who_connects_from_far_away_has_a_link_of_its_own() {
        let (target, _seen) = echo();
        let far = IpAddr::from([127, 0, 0, 9]);
        let round_trip = Duration::from_millis(200);
        let shapes = BTreeMap::from([(far, Shape::with_round_trip(round_trip))]);
        let relay = Relay::start_between(Ipv4Addr::LOCALHOST.into(), target, Shape::default(), shapes);
        assert_eq!(exchange(&mut connect(relay.address()), b"near"), b"near");
        let (near, nothing) = (relay.traffic(), relay.traffic_from(far));
        assert_eq!((near.up_bytes, nothing.up_bytes), (4, 0));

        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let begun = Instant::now();
        let stream = runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind((far, 0).into()).unwrap();
            socket.connect(relay.address()).await.unwrap().into_std().unwrap()
        });
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut stream = stream;
        assert_eq!(exchange(&mut stream, b"from far"), b"from far");
        assert!(begun.elapsed() >= 2 * round_trip);
        assert_eq!((relay.traffic().up_bytes, relay.traffic_from(far).up_bytes), (4, 8));
    }

    #[test]
    fn a_narrow_link_takes_the_time_of_its_bytes_for_all_connections_together() {
        let (target, _seen) = echo();
        let relay = Relay::start(target, Shape::default().at_bytes_per_s(Way::Down, 1_000_000));
        let begun = Instant::now();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| exchange(&mut connect(relay.address()), &[7; 50_000]));
            }
        });
        assert!(begun.elapsed() >= Duration::from_millis(199), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_blackhole_accepts_and_lets_nothing_pass_until_it_is_mended() {
        let (target, seen) = echo();
        let relay = Relay::start(target, Shape::default());
        let mut old = connect(relay.address());
        assert_eq!(exchange(&mut old, b"before"), b"before");
        seen.recv().unwrap();
        relay.blackhole();
        let mut new = connect(relay.address());
        old.write_all(b"within").unwrap();
        new.write_all(b"within").unwrap();
        // The server answers others meanwhile, and has heard nothing of the new connection.
        assert_eq!(exchange(&mut connect(target), b"direct"), b"direct");
        seen.recv().unwrap();
        assert!(seen.try_recv().is_err());
        assert_eq!(relay.traffic().down_bytes, 6);
        relay.mend();
        for stream in [&mut old, &mut new] {
            let mut late = [0; 6];
            stream.read_exact(&mut late).unwrap();
            assert_eq!(&late, b"within");
        }
    }

    #[test]
    fn connections_that_are_cut_end_and_the_link_serves_others() {
        let (target, _seen) = echo();
        let relay = Relay::start(target, Shape::default());
        let mut stream = connect(relay.address());
        assert_eq!(exchange(&mut stream, b"before"), b"before");
        relay.cut_connections();
        let ended = stream.read(&mut [0; 1]);
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(exchange(&mut connect(relay.address()), b"after"), b"after");
    }

    #[test]
    fn one_bit_of_the_chosen_byte_is_flipped_once() {
        let (target, _seen) = echo();
        let relay = Relay::start(target, Shape::default());
        let mut stream = connect(relay.address());
        assert_eq!(exchange(&mut stream, b"aaaa"), b"aaaa");
        relay.flip_bit(Way::Down, 5);
        assert_eq!(exchange(&mut stream, b"aaaa"), b"aaaa");
        assert_eq!(relay.flipped_bits(), 0);
        assert_eq!(exchange(&mut stream, b"aaaa"), b"a`aa");
        assert_eq!(exchange(&mut stream, b"aaaa"), b"aaaa");
        assert_eq!(relay.flipped_bits(), 1);
    }

    #[test]
    fn the_end_of_a_stream_passes_and_the_other_direction_stays() {
        let (target, _seen) = echo();
        let relay = Relay::start(target, Shape::with_round_trip(Duration::from_millis(20)));
        let mut stream = connect(relay.address());
        stream.write_all(b"last words").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"last words");
    }
}
