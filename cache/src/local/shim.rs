//! What `meridian cacheprog` is: cmd/go's child, which passes its questions on to the agent's daemon.
//!
//! It is started for every cmd/go, so it is made of plain threads and small buffers and sets up nothing.
//! Gets and puts travel on a connection each, so that none waits behind the other. It never answers a put
//! with an error, because cmd/go fails the build for some of them; and each wait has a bound, because cmd/go
//! has none. Most gets it answers by itself, with what the daemon told ahead of them (`foretold.rs`), which saves a
//! way to the daemon and back for each. What it does when the daemon is unreachable, dead or stalled: gets are misses, and what is put
//! goes to a directory of its own.

use std::{
    io::{self, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use meridian_core::digest::Digest;

use super::{
    beside,
    cmdgo::{self, Body, Incoming, PIECE_LEN, Request},
    lane::{Lane, Patience, Settled, Waiting},
    replies::Replies,
    spool::{Kept, Spooled},
    wire::Call,
};
use crate::entry::ActionId;

/// How long the daemon may take for an answer before it counts as dead.
const PATIENCE: Patience = Patience(Duration::from_secs(10));

/// How much memory bodies on their way may take together; beyond it they are kept on disk.
const MEMORY_MAX: usize = 2 << 20;

/// The daemon is told at the latest after so many gets that were answered here. Each telling costs a write and wakes the
/// daemon, which then tells as many more; that must not be late, so it is a small part of what it tells ahead.
const USED_MAX: usize = 16;

/// Speaks GOCACHEPROG on standard input and output, and passes everything on to `socket`, which is its task's.
/// Always succeeds: whatever goes wrong makes the build slower, never failing.
#[must_use]
pub fn run(socket: &Path) -> ExitCode {
    run_on(io::stdin().lock(), io::stdout(), &Door::Task(socket), PATIENCE);
    ExitCode::SUCCESS
}

/// The same for a go command beside an agent, at the socket that all of those share; for `project`, or the agent's first.
/// Without an agent, or where somebody else than root, this user or `owner` listens, it says so on standard error, and the
/// go command does without a cache.
#[must_use]
pub fn run_beside(socket: &Path, project: Option<String>, owner: Option<u32>) -> ExitCode {
    run_on(io::stdin().lock(), io::stdout(), &Door::Beside { socket, project, owner }, PATIENCE);
    ExitCode::SUCCESS
}

/// Where the daemon is, and as what the shim comes to it.
enum Door<'a> {
    Task(&'a Path),
    Beside { socket: &'a Path, project: Option<String>, owner: Option<u32> },
}

impl Door<'_> {
    /// A lane for gets and one for puts, and what must stay open for as long as cmd/go lives.
    fn open(&self, patience: Patience) -> ([Arc<Lane>; 2], Option<UnixStream>) {
        let (socket, project, owner) = match self {
            Self::Task(socket) => {
                let lane = || Arc::new(Lane::begin(UnixStream::connect(socket).ok(), &[], patience));
                return ([lane(), lane()], None);
            }
            Self::Beside { socket, project, owner } => (socket, project, *owner),
        };
        let about = beside::About::of_parent(project.clone());
        let why = match beside::ask(socket, owner, &beside::Opening::Run(about)) {
            Ok((stream, beside::Opened::Run { run })) => {
                let mut first = Vec::new();
                // Into memory nothing can fail.
                let _ = beside::say_opening(&mut first, &beside::Opening::Lane { run });
                // Each is looked at as the first was: another may listen there by now.
                let lane = || Lane::begin(beside::connect(socket, owner).ok(), &first, patience);
                return ([lane(), lane()].map(Arc::new), Some(stream));
            }
            Ok((_, beside::Opened::Refused { why })) => why,
            Ok((_, beside::Opened::Here { .. })) => "it answers what was not asked".to_owned(),
            Err(error) => error.to_string(),
        };
        eprintln!("meridian: this go command does without the agent's cache at {}: {why}", socket.display());
        ([(); 2].map(|()| Arc::new(Lane::dead(patience))), None)
    }
}

/// The shim on any input and output.
fn run_on(input: impl Read, output: impl Write + Send + 'static, door: &Door<'_>, patience: Patience) {
    let replies = Arc::new(Replies::new(output));
    replies.say(cmdgo::KNOWN_COMMANDS);
    let (lanes, _run) = door.open(patience);
    for lane in &lanes {
        let (reading, answers) = (Arc::clone(lane), Arc::clone(&replies));
        let thread = std::thread::Builder::new().stack_size(128 << 10);
        let started = thread.spawn(move || reading.read_answers(|settled| answers.settle(settled)));
        if started.is_err() {
            lane.fail(|settled| replies.settle(settled));
        }
    }
    let [gets, puts] = lanes;
    let mut shim =
        Shim { input: BufReader::with_capacity(64 << 10, input), replies, gets, puts, used: Vec::new() };
    let conversed = shim.converse();
    shim.tell_used();
    match conversed {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            eprintln!("meridian cacheprog: cannot read what cmd/go says: {error}");
        }
        // cmd/go is gone, or has been told everything.
        _ => {}
    }
    shim.replies.spool.close();
}

struct Shim<R, W> {
    input: BufReader<R>,
    replies: Arc<Replies<W>>,
    gets: Arc<Lane>,
    puts: Arc<Lane>,
    /// Calls that say what was answered here, and are not sent yet.
    used: Vec<u8>,
}

impl<R: Read, W: Write> Shim<R, W> {
    fn converse(&mut self) -> io::Result<()> {
        loop {
            match cmdgo::read_request(&mut self.input)? {
                Incoming::End => return Ok(()),
                Incoming::Noise => {}
                Incoming::Request(request) => match request.command.as_str() {
                    "get" => self.get(&request),
                    "put" => self.put(&request)?,
                    "close" => {
                        self.close(request.id);
                        return Ok(());
                    }
                    other => self.replies.say(&cmdgo::unknown(request.id, other)),
                },
            }
        }
    }

    fn get(&mut self, request: &Request) {
        let id = request.id.cast_unsigned();
        let Some(action) = request.action().map(ActionId) else {
            return self.replies.settle(Settled::Lost(id, Waiting::Get));
        };
        if let Some(found) = self.gets.foretold(&action) {
            self.replies.hit(id, &found);
            Call::Used { action }.encode(&mut self.used);
            if self.used.len() >= USED_MAX * Call::USED_LEN {
                self.tell_used();
            }
            return;
        }
        if let Err(waiting) = self.gets.expect(id, Waiting::Get) {
            return self.replies.settle_without(id, waiting);
        }
        // The daemon writes down in which order is asked, so what was answered here comes before it.
        let mut calls = std::mem::take(&mut self.used);
        Call::Get { id, action }.encode(&mut calls);
        self.send(&self.gets, &calls);
        calls.clear();
        self.used = calls;
    }

    /// Tells the daemon what was answered here.
    fn tell_used(&mut self) {
        if !self.used.is_empty() {
            self.send(&self.gets, &self.used);
            self.used.clear();
        }
    }

    fn put(&mut self, request: &Request) -> io::Result<()> {
        let id = request.id.cast_unsigned();
        let size = request.body_size;
        let mut frame = Vec::new();
        let ids = request.action().zip(request.output());
        if let Some((action, output)) = ids {
            let (action, output) = (ActionId(action), Digest::from_bytes(output));
            self.gets.supersede(action);
            // What was asked before stands before it in the order that the daemon writes down.
            self.tell_used();
            Call::Put { id, action, output, size }.encode(&mut frame);
        }
        let body_at = frame.len();
        let mut body = if size == 0 { None } else { Some(Body::begin(&mut self.input)?) };
        let ended = match &mut body {
            Some(body) => {
                let mut piece = Vec::with_capacity(PIECE_LEN.min(usize::try_from(size).unwrap_or(PIECE_LEN)));
                let ended = body.next_piece(&mut self.input, &mut piece)?;
                frame.append(&mut piece);
                ended
            }
            None => true,
        };
        let whole = ended && (frame.len() - body_at) as u64 == size;
        match body {
            _ if whole && ids.is_some() && self.puts.memory() + frame.len() <= MEMORY_MAX => {
                self.put_small(id, frame, body_at);
                Ok(())
            }
            body => self.put_large(id, ids.is_some(), frame, body_at, size, body.filter(|_| !ended)),
        }
    }

    /// A body that is wholly in memory, and stays there until the daemon has it.
    fn put_small(&self, id: u64, frame: Vec<u8>, body_at: usize) {
        let frame = Arc::new(frame);
        let kept = Kept::Memory { frame: Arc::clone(&frame), body_at };
        match self.puts.expect(id, Waiting::Put(kept)) {
            Ok(()) => {
                self.send(&self.puts, &frame);
            }
            Err(waiting) => self.replies.settle_without(id, waiting),
        }
    }

    /// A body that is passed on in pieces, and kept in the spool meanwhile, since the daemon may die within.
    fn put_large(
        &mut self,
        id: u64,
        mut sending: bool,
        mut piece: Vec<u8>,
        body_at: usize,
        size: u64,
        mut rest: Option<Body>,
    ) -> io::Result<()> {
        let mut spooled = self.replies.spool.create().ok();
        let mut read = (piece.len() - body_at) as u64;
        spool_piece(&mut spooled, &piece[body_at..]);
        while let Some(body) = &mut rest {
            // The last piece is held back until the question is on the list, for its answer may be quick.
            let ended = if read < size {
                sending = sending && self.send(&self.puts, &piece);
                piece.clear();
                let ended = body.next_piece(&mut self.input, &mut piece)?;
                spool_piece(&mut spooled, &piece);
                read += piece.len() as u64;
                ended
            } else {
                // All bytes are here. Only the closing quote is missing, and more bytes are one too many.
                let mut extra = Vec::new();
                let ended = body.next_piece(&mut self.input, &mut extra)?;
                read += extra.len() as u64;
                ended
            };
            if ended {
                rest = None;
            }
        }
        let whole = read == size;
        if sending && !whole {
            // The daemon waits for bytes that will not come; there is no way back into step with it.
            self.puts.fail(|settled| self.replies.settle(settled));
        }
        let kept = spooled.filter(|_| whole).map_or(Kept::Nothing, Kept::File);
        if !sending || !whole {
            self.replies.settle(Settled::Lost(id, Waiting::Put(kept)));
            return Ok(());
        }
        match self.puts.expect(id, Waiting::Put(kept)) {
            Ok(()) => {
                self.send(&self.puts, &piece);
            }
            Err(waiting) => self.replies.settle_without(id, waiting),
        }
        Ok(())
    }

    fn send(&self, lane: &Lane, bytes: &[u8]) -> bool {
        lane.send(bytes, |settled| self.replies.settle(settled))
    }

    /// Answers whatever is open, then the close itself: an exit before that is fatal to cmd/go.
    fn close(&mut self, id: i64) {
        self.tell_used();
        for lane in [&self.gets, &self.puts] {
            lane.wait_until_settled();
            lane.fail(|settled| self.replies.settle(settled));
        }
        self.replies.say(&cmdgo::closed(id));
    }
}

/// Adds a piece to the spool; a full disk costs the copy, not the build.
fn spool_piece(spooled: &mut Option<Spooled>, piece: &[u8]) {
    if spooled.as_mut().is_some_and(|spooled| spooled.write(piece).is_err()) {
        *spooled = None;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, PipeReader, PipeWriter},
        os::unix::net::UnixListener,
        thread::JoinHandle,
    };

    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde_json::{Value, json};

    use super::*;
    use crate::local::wire::{Answer, Found, GREETING, Said};

    /// cmd/go and its shim, with a daemon between which says only what a test has it say.
    struct Bench {
        next: i64,
        to_shim: PipeWriter,
        from_shim: BufReader<PipeReader>,
        shim: JoinHandle<()>,
        gets: BufReader<UnixStream>,
        puts: BufReader<UnixStream>,
    }

    impl Bench {
        fn start() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let socket = dir.path().join("s");
            let listener = UnixListener::bind(&socket).unwrap();
            let (input, to_shim) = io::pipe().unwrap();
            let (from_shim, output) = io::pipe().unwrap();
            let shim = std::thread::spawn(move || run_on(input, output, &Door::Task(&socket), PATIENCE));
            // Gets come first.
            let [gets, puts] = [(); 2].map(|()| {
                let mut lane = BufReader::new(listener.accept().unwrap().0);
                lane.get_ref().set_read_timeout(Some(PATIENCE.0)).unwrap();
                let mut greeting = [0; 4];
                lane.read_exact(&mut greeting).unwrap();
                assert_eq!(greeting, GREETING);
                lane
            });
            let mut bench = Self { next: 0, to_shim, from_shim: BufReader::new(from_shim), shim, gets, puts };
            bench.answer();
            bench
        }

        fn ask(&mut self, command: &str, action: u8) {
            self.next += 1;
            let (id, action) = (self.next, STANDARD.encode([action; 32]));
            let size = usize::from(command == "put");
            let request = json!({"ID": id, "Command": command, "ActionID": action, "OutputID": action, "BodySize": size});
            let body = if command == "put" { "\"eA==\"\n" } else { "" };
            self.to_shim.write_all(format!("{request}\n{body}").as_bytes()).unwrap();
        }

        fn answer(&mut self) -> Value {
            let mut line = String::new();
            self.from_shim.read_line(&mut line).unwrap();
            let value: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(value["ID"], self.next, "{line}");
            value
        }

        fn get(&mut self, action: u8) -> Value {
            self.ask("get", action);
            self.answer()
        }

        /// Asks the daemon for something, and has it tell these before it answers, so that they are known by then.
        fn tell(&mut self, actions: impl IntoIterator<Item = u8>) {
            self.ask("get", 0);
            let Call::Get { id, .. } = self.call() else { panic!("no question") };
            let mut said = Vec::new();
            for action in actions {
                let found =
                    Found { output: Digest::of(b"x"), size: 1, time_ns: 0, path: format!("/{action}") };
                Said::Ahead { action: ActionId([action; 32]), found }.encode(&mut said);
            }
            Said::Answer(Answer::Miss { id }).encode(&mut said);
            self.gets.get_mut().write_all(&said).unwrap();
            assert_eq!(self.answer()["Miss"], true);
        }

        fn call(&mut self) -> Call {
            Call::read(&mut self.gets).unwrap()
        }

        fn expect_used(&mut self, actions: impl IntoIterator<Item = u8>) {
            for action in actions {
                assert_eq!(self.call(), Call::Used { action: ActionId([action; 32]) });
            }
        }
    }

    #[test]
    fn what_was_told_is_answered_without_the_daemon_and_said_to_it_before_the_next_question() {
        let mut bench = Bench::start();
        bench.tell([1, 2, 3]);
        for action in [2, 1] {
            let answer = bench.get(action);
            assert_eq!((&answer["DiskPath"], &answer["Size"]), (&json!(format!("/{action}")), &json!(1)));
        }
        bench.ask("get", 9);
        bench.expect_used([2, 1]);
        assert!(matches!(bench.call(), Call::Get { action, .. } if action == ActionId([9; 32])));
    }

    #[test]
    fn what_was_used_is_said_after_a_few_answers_and_the_rest_before_the_shim_ends() {
        for ends_well in [true, false] {
            let mut bench = Bench::start();
            bench.tell(1..=20);
            for action in 1..=20 {
                bench.get(action);
            }
            bench.expect_used(1..=16);
            if ends_well {
                bench.ask("close", 0);
                bench.answer();
            } else {
                bench.to_shim = io::pipe().unwrap().1;
            }
            bench.expect_used(17..=20);
            bench.shim.join().unwrap();
        }
    }

    #[test]
    fn a_put_replaces_what_was_told_and_what_is_told_later() {
        let mut bench = Bench::start();
        bench.tell([1, 2, 3]);
        bench.get(3);
        bench.ask("put", 1);
        // In the order of the questions.
        bench.expect_used([3]);
        let Call::Put { id, .. } = Call::read(&mut bench.puts).unwrap() else { panic!("no put") };
        let mut said = Vec::new();
        Said::Answer(Answer::Stored { id, path: "/new".to_owned() }).encode(&mut said);
        bench.puts.get_mut().write_all(&said).unwrap();
        assert_eq!(bench.answer()["DiskPath"], "/new");
        bench.tell([1]);
        bench.ask("get", 1);
        assert!(matches!(bench.call(), Call::Get { action, .. } if action == ActionId([1; 32])));
    }

    #[test]
    fn what_a_daemon_told_that_is_gone_answers_nothing() {
        let mut bench = Bench::start();
        bench.tell([1, 2]);
        assert_eq!(bench.get(1)["DiskPath"], "/1");
        bench.gets = BufReader::new(UnixStream::pair().unwrap().0);
        assert_eq!(bench.get(9)["Miss"], true);
        assert_eq!(bench.get(2)["Miss"], true);
    }
}
