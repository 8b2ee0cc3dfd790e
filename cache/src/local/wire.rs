//! What the shim and the daemon say to each other on a task's socket.
//!
//! A connection begins with [`GREETING`]. Then calls flow one way and answers the other, each a fixed header
//! of big-endian numbers and raw bytes; a put's body follows its header as it is. A caller may send many calls
//! before it reads an answer, and matches answers by id. There is no version to negotiate, because both ends
//! are the same executable; a greeting of another version is hung up on.

use std::io::{self, BufRead, Read};

use meridian_core::digest::Digest;

use crate::entry::ActionId;

/// The first bytes of a connection.
pub(super) const GREETING: [u8; 4] = *b"MRC1";

/// The longest path in an answer, in bytes.
const PATH_LEN_MAX: usize = 4096;

const GET: u8 = 1;
const PUT: u8 = 2;
const HIT: u8 = 3;
const MISS: u8 = 4;
const STORED: u8 = 5;
const REFUSED: u8 = 6;

/// A question of the shim's.
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
}

/// What the daemon says to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Hit {
        id: u64,
        output: Digest,
        size: u64,
        time_ns: u64,
        path: String,
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

impl Call {
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
        }
    }

    /// Reads the next call. The caller has made sure that at least one byte is there.
    pub(super) fn read(input: &mut impl BufRead) -> io::Result<Self> {
        let kind = u8::from_be_bytes(array(input)?);
        let id = u64::from_be_bytes(array(input)?);
        let action = ActionId(array(input)?);
        match kind {
            GET => Ok(Self::Get { id, action }),
            PUT => {
                let output = Digest::from_bytes(array(input)?);
                Ok(Self::Put { id, action, output, size: u64::from_be_bytes(array(input)?) })
            }
            _ => Err(unknown(kind)),
        }
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
            Self::Hit { id, output, size, time_ns, path } => {
                out.push(HIT);
                out.extend_from_slice(&id.to_be_bytes());
                out.extend_from_slice(output.as_bytes());
                out.extend_from_slice(&size.to_be_bytes());
                out.extend_from_slice(&time_ns.to_be_bytes());
                encode_path(path, out);
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

    /// Reads the next answer. The caller has made sure that at least one byte is there.
    pub(super) fn read(input: &mut impl BufRead) -> io::Result<Self> {
        let kind = u8::from_be_bytes(array(input)?);
        let id = u64::from_be_bytes(array(input)?);
        match kind {
            HIT => Ok(Self::Hit {
                id,
                output: Digest::from_bytes(array(input)?),
                size: u64::from_be_bytes(array(input)?),
                time_ns: u64::from_be_bytes(array(input)?),
                path: read_path(input)?,
            }),
            MISS => Ok(Self::Miss { id }),
            STORED => Ok(Self::Stored { id, path: read_path(input)? }),
            REFUSED => Ok(Self::Refused { id }),
            _ => Err(unknown(kind)),
        }
    }
}

fn array<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
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
        fn a_call_survives_the_wire(id: u64, action: [u8; 32], output in digest(), size: u64, get: bool) {
            let action = ActionId(action);
            let call = if get { Call::Get { id, action } } else { Call::Put { id, action, output, size } };
            let mut bytes = Vec::new();
            call.encode(&mut bytes);
            let mut rest = bytes.as_slice();
            prop_assert_eq!(Call::read(&mut rest).unwrap(), call);
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn an_answer_survives_the_wire(id: u64, output in digest(), size: u64, time_ns: u64, path in "[a-zé/]{1,80}", kind in 0..4) {
            let answer = match kind {
                0 => Answer::Hit { id, output, size, time_ns, path },
                1 => Answer::Miss { id },
                2 => Answer::Stored { id, path },
                _ => Answer::Refused { id },
            };
            let mut bytes = Vec::new();
            answer.encode(&mut bytes);
            let mut rest = bytes.as_slice();
            prop_assert_eq!(Answer::read(&mut rest).unwrap(), answer);
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn noise_is_refused_without_a_panic(bytes: Vec<u8>) {
            let _ = Call::read(&mut bytes.as_slice());
            let _ = Answer::read(&mut bytes.as_slice());
        }
    }
}
