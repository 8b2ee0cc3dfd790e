//! What `meridian cacheprog` is: cmd/go's child, which passes its questions on to the agent's daemon.
//!
//! It is started for every cmd/go, so it is made of plain threads and small buffers and sets up nothing.
//! Gets and puts travel on a connection each, so that none waits behind the other. It never answers a put
//! with an error, because cmd/go fails the build for some of them; and each wait has a bound, because cmd/go
//! has none. What it does when the daemon is unreachable, dead or stalled: gets are misses, and what is put
//! goes to a directory of its own.

use std::{
    io::{self, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex, Once, PoisonError},
    time::Duration,
};

use meridian_core::digest::Digest;

use super::{
    beside,
    cmdgo::{self, Body, Incoming, PIECE_LEN, Request},
    lane::{Lane, Patience, Settled, Waiting},
    spool::{Kept, Spool, Spooled},
    wire::{Answer, Call},
};
use crate::entry::ActionId;

/// How long the daemon may take for an answer before it counts as dead.
const PATIENCE: Patience = Patience(Duration::from_secs(10));

/// How much memory bodies on their way may take together; beyond it they are kept on disk.
const MEMORY_MAX: usize = 2 << 20;

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

/// Answers to cmd/go, one whole line at a time.
struct Replies<W> {
    output: Mutex<W>,
    spool: Spool,
    /// Whoever reads the build's log knows that it goes on without the cache.
    told: Once,
}

impl<W: Write> Replies<W> {
    fn say(&self, line: &[u8]) {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        // When cmd/go is gone nobody is left to be told.
        let _ = output.write_all(line).and_then(|()| output.flush());
    }

    fn settle(&self, settled: Settled) {
        match settled {
            Settled::Answered(Answer::Hit { id, output, size, time_ns, path }, Waiting::Get) => {
                self.say(&cmdgo::hit(id.cast_signed(), output.as_bytes(), size, time_ns, &path));
            }
            Settled::Answered(Answer::Stored { id, path }, Waiting::Put(_)) => {
                self.say(&cmdgo::stored(id.cast_signed(), &path));
            }
            Settled::Answered(answer, Waiting::Get) => self.say(&cmdgo::miss(answer.id().cast_signed())),
            Settled::Answered(answer, Waiting::Put(kept)) => self.keep(answer.id(), kept),
            Settled::Lost(id, Waiting::Get) => self.say(&cmdgo::miss(id.cast_signed())),
            Settled::Lost(id, Waiting::Put(kept)) => self.keep(id, kept),
        }
    }

    /// Answers what is asked of a daemon that is not there any more.
    fn settle_without(&self, id: u64, waiting: Waiting) {
        self.told.call_once(|| {
            eprintln!("meridian: the agent's cache does not answer: this go command goes on without it");
        });
        self.settle(Settled::Lost(id, waiting));
    }

    /// Answers a put that the daemon did not take.
    fn keep(&self, id: u64, mut kept: Kept) {
        kept.keep();
        // With room for the body nowhere, a path where nothing is. cmd/go does not read back what it put in
        // the course of a build; whoever does fails to open it, which is better than wrong bytes and better
        // than an error here, which would fail every build.
        let path = self.spool.give_out(&kept);
        let path = path.as_deref().unwrap_or("/nonexistent/meridian-no-space-for-this-body");
        self.say(&cmdgo::stored(id.cast_signed(), path));
    }
}

/// The shim on any input and output.
fn run_on(input: impl Read, output: impl Write + Send + 'static, door: &Door<'_>, patience: Patience) {
    let replies =
        Arc::new(Replies { output: Mutex::new(output), spool: Spool::default(), told: Once::new() });
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
    let mut shim = Shim { input: BufReader::with_capacity(64 << 10, input), replies, gets, puts };
    match shim.converse() {
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

    fn get(&self, request: &Request) {
        let id = request.id.cast_unsigned();
        let Some(action) = request.action() else {
            return self.replies.settle(Settled::Lost(id, Waiting::Get));
        };
        if let Err(waiting) = self.gets.expect(id, Waiting::Get) {
            return self.replies.settle_without(id, waiting);
        }
        let mut frame = Vec::with_capacity(48);
        Call::Get { id, action: ActionId(action) }.encode(&mut frame);
        self.send(&self.gets, &frame);
    }

    fn put(&mut self, request: &Request) -> io::Result<()> {
        let id = request.id.cast_unsigned();
        let size = request.body_size;
        let mut frame = Vec::new();
        let ids = request.action().zip(request.output());
        if let Some((action, output)) = ids {
            let output = Digest::from_bytes(output);
            Call::Put { id, action: ActionId(action), output, size }.encode(&mut frame);
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
    fn close(&self, id: i64) {
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
