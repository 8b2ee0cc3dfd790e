//! What the shim and the daemon say to each other on a task's socket.
//!
//! A connection begins with [`GREETING`]. Then calls flow one way and answers the other, each a fixed header
//! of big-endian numbers and raw bytes; a put's body follows its header as it is. A caller may send many calls
//! before it reads an answer, and matches answers by id. There is no version to negotiate, because both ends
//! are the same executable; a greeting of another version is hung up on.
//!
//! Between its answers the daemon tells answers to questions that were not asked yet ([`Said::Ahead`]). The shim
//! gives them to cmd/go by itself, and says later which it gave ([`Call::Used`]), in the order of the questions.

use std::io::{self, BufRead, Read};

use meridian_core::digest::Digest;

use crate::entry::{ActionId, Entry};

/// The first bytes of a connection.
pub(super) const GREETING: [u8; 4] = *b"MRC2";

/// The longest path in an answer, in bytes.
const PATH_LEN_MAX: usize = 4096;

const GET: u8 = 1;
const PUT: u8 = 2;
const HIT: u8 = 3;
const MISS: u8 = 4;
const STORED: u8 = 5;
const REFUSED: u8 = 6;
const AHEAD: u8 = 7;
const USED: u8 = 8;

/// What the shim says: a question mostly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Get {
        id: u64,
        action: ActionId,
    },
    /// `size` bytes of body follow.
    Put {
        id: u64,
        action: ActionId,
        output: Digest,
        size: u64,
    },
    /// What the daemon told ahead of this question was the answer to it. Nothing is answered to that.
    Used {
        action: ActionId,
    },
}

/// What answers an action, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) output: Digest,
    pub(super) size: u64,
    pub(super) time_ns: u64,
    pub(super) path: String,
}

/// What the daemon says to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Hit {
        id: u64,
        found: Found,
    },
    Miss {
        id: u64,
    },
    Stored {
        id: u64,
        path: String,
    },
    /// The body was read to its end but could not be kept.
    Refused {
        id: u64,
    },
}

/// What the daemon says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    Answer(Answer),
    /// What will be the answer for `action`, which was not asked for yet, or is being asked for.
    Ahead {
        action: ActionId,
        found: Found,
    },
}

impl Call {
    /// The length of a [`Call::Used`] in bytes.
    pub(super) const USED_LEN: usize = 1 + 32;

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Get { id, action } => {
                out.push(GET);
                out.extend_from_slice(&id.to_be_bytes());
                out.extend_from_slice(&action.0);
            }
            Self::Put { id, action, output, size } => {
                out.push(PUT);
                out.extend_from_slice(&id.to_be_bytes());
                out.extend_from_slice(&action.0);
                out.extend_from_slice(output.as_bytes());
                out.extend_from_slice(&size.to_be_bytes());
            }
            Self::Used { action } => {
                out.push(USED);
                out.extend_from_slice(&action.0);
            }
        }
    }

    /// Reads the next call. The caller has made sure that at least one byte is there.
    pub(super) fn read(input: &mut impl BufRead) -> io::Result<Self> {
        match u8::from_be_bytes(array(input)?) {
            GET => Ok(Self::Get { id: number(input)?, action: ActionId(array(input)?) }),
            PUT => Ok(Self::Put {
                id: number(input)?,
                action: ActionId(array(input)?),
                output: Digest::from_bytes(array(input)?),
                size: number(input)?,
            }),
            USED => Ok(Self::Used { action: ActionId(array(input)?) }),
            kind => Err(unknown(kind)),
        }
    }
}

impl Found {
    pub(super) const fn new(entry: &Entry, path: String) -> Self {
        Self { output: entry.output, size: entry.size, time_ns: entry.time_ns, path }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.output.as_bytes());
        out.extend_from_slice(&self.size.to_be_bytes());
        out.extend_from_slice(&self.time_ns.to_be_bytes());
        encode_path(&self.path, out);
    }

    fn read(input: &mut impl Read) -> io::Result<Self> {
        Ok(Self {
            output: Digest::from_bytes(array(input)?),
            size: number(input)?,
            time_ns: number(input)?,
            path: read_path(input)?,
        })
    }
}

impl Answer {
    pub(super) const fn id(&self) -> u64 {
        match self {
            Self::Hit { id, .. } | Self::Miss { id } | Self::Stored { id, .. } | Self::Refused { id } => *id,
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hit { id, found } => {
                out.push(HIT);
                out.extend_from_slice(&id.to_be_bytes());
                found.encode(out);
            }
            Self::Miss { id } => {
                out.push(MISS);
                out.extend_from_slice(&id.to_be_bytes());
            }
            Self::Stored { id, path } => {
                out.push(STORED);
                out.extend_from_slice(&id.to_be_bytes());
                encode_path(path, out);
            }
            Self::Refused { id } => {
                out.push(REFUSED);
                out.extend_from_slice(&id.to_be_bytes());
            }
        }
    }
}

impl Said {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Answer(answer) => answer.encode(out),
            Self::Ahead { action, found } => {
                out.push(AHEAD);
                out.extend_from_slice(&action.0);
                found.encode(out);
            }
        }
    }

    /// Reads what is said next. The caller has made sure that at least one byte is there.
    pub(super) fn read(input: &mut impl BufRead) -> io::Result<Self> {
        let answer = match u8::from_be_bytes(array(input)?) {
            AHEAD => {
                return Ok(Self::Ahead { action: ActionId(array(input)?), found: Found::read(input)? });
            }
            HIT => Answer::Hit { id: number(input)?, found: Found::read(input)? },
            MISS => Answer::Miss { id: number(input)? },
            STORED => Answer::Stored { id: number(input)?, path: read_path(input)? },
            REFUSED => Answer::Refused { id: number(input)? },
            kind => return Err(unknown(kind)),
        };
        Ok(Self::Answer(answer))
    }
}

fn array<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn number(input: &mut impl Read) -> io::Result<u64> {
    array(input).map(u64::from_be_bytes)
}

fn encode_path(path: &str, out: &mut Vec<u8>) {
    // The daemon refuses a directory whose bodies would have longer paths, so nothing is cut here.
    let len = u16::try_from(path.len()).unwrap_or(0);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&path.as_bytes()[..usize::from(len)]);
}

fn read_path(input: &mut impl Read) -> io::Result<String> {
    let len = usize::from(u16::from_be_bytes(array(input)?));
    if len == 0 || len > PATH_LEN_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a path of {len} bytes")));
    }
    let mut bytes = vec![0; len];
    input.read_exact(&mut bytes)?;
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn unknown(kind: u8) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a frame of unknown kind {kind}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest() -> impl Strategy<Value = Digest> {
        any::<[u8; 32]>().prop_map(Digest::from_bytes)
    }

    proptest! {
        #[test]
        fn a_call_survives_the_wire(id: u64, action: [u8; 32], output in digest(), size: u64, kind in 0..3) {
            let action = ActionId(action);
            let call = match kind {
                0 => Call::Get { id, action },
                1 => Call::Put { id, action, output, size },
                _ => Call::Used { action },
            };
            let mut bytes = Vec::new();
            call.encode(&mut bytes);
            prop_assert!(kind != 2 || bytes.len() == Call::USED_LEN);
            let mut rest = bytes.as_slice();
            prop_assert_eq!(Call::read(&mut rest).unwrap(), call);
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn what_the_daemon_says_survives_the_wire(
            id: u64,
            action: [u8; 32],
            (output, size, time_ns) in (digest(), any::<u64>(), any::<u64>()),
            path in "[a-zé/]{1,80}",
            kind in 0..5,
        ) {
            let found = Found { output, size, time_ns, path: path.clone() };
            let said = match kind {
                0 => Said::Answer(Answer::Hit { id, found }),
                1 => Said::Answer(Answer::Miss { id }),
                2 => Said::Answer(Answer::Stored { id, path }),
                3 => Said::Answer(Answer::Refused { id }),
                _ => Said::Ahead { action: ActionId(action), found },
            };
            let mut bytes = Vec::new();
            said.encode(&mut bytes);
            let mut rest = bytes.as_slice();
            prop_assert_eq!(Said::read(&mut rest).unwrap(), said);
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn noise_is_refused_without_a_panic(bytes: Vec<u8>) {
            let _ = Call::read(&mut bytes.as_slice());
            let _ = Said::read(&mut bytes.as_slice());
        }
    }
}
