//! GOCACHEPROG as cmd/go speaks it: JSON lines both ways, and after a put its body as one JSON string of
//! base64, which may be larger than the shim's whole memory and is therefore decoded in pieces.

use std::io::{self, BufRead};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;

/// What must be said first, before anything that could take time.
pub(super) const KNOWN_COMMANDS: &[u8] = b"{\"ID\":0,\"KnownCommands\":[\"get\",\"put\",\"close\"]}\n";

/// The longest request line; a real one has some 200 bytes.
const LINE_LEN_MAX: usize = 64 << 10;

/// The largest piece of a decoded body. A multiple of three, so that its base64 has no padding.
pub(super) const PIECE_LEN: usize = 48 << 10;

/// A request, with the fields that this protocol version has. Others are ignored.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Request {
    #[serde(rename = "ID")]
    pub(super) id: i64,
    pub(super) command: String,
    #[serde(rename = "ActionID")]
    action_id: Option<String>,
    #[serde(rename = "OutputID")]
    output_id: Option<String>,
    pub(super) body_size: u64,
}

impl Request {
    /// The action's id, if it has the length of a SHA-256.
    pub(super) fn action(&self) -> Option<[u8; 32]> {
        id_bytes(self.action_id.as_deref())
    }

    /// The output's id, if it has the length of a SHA-256.
    pub(super) fn output(&self) -> Option<[u8; 32]> {
        id_bytes(self.output_id.as_deref())
    }
}

fn id_bytes(text: Option<&str>) -> Option<[u8; 32]> {
    STANDARD.decode(text?).ok()?.try_into().ok()
}

/// What arrived on standard input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    Request(Request),
    /// A line that is no request, and so has no id to answer to.
    Noise,
    End,
}

/// Reads the next request line. Memory is bounded whatever the line holds.
pub(super) fn read_request(input: &mut impl BufRead) -> io::Result<Incoming> {
    let mut line = Vec::new();
    loop {
        let bytes = input.fill_buf()?;
        if bytes.is_empty() {
            return Ok(if line.is_empty() { Incoming::End } else { parse(&line) });
        }
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let len = end.unwrap_or(bytes.len());
        // What is over the limit is read and let go; what is kept is then no request any more.
        line.extend_from_slice(&bytes[..len.min(LINE_LEN_MAX.saturating_sub(line.len()))]);
        input.consume(len + usize::from(end.is_some()));
        if end.is_some() && !line.trim_ascii().is_empty() {
            return Ok(parse(&line));
        }
    }
}

fn parse(line: &[u8]) -> Incoming {
    serde_json::from_slice(line).map_or(Incoming::Noise, Incoming::Request)
}

/// Decodes one body, piece by piece.
pub(super) struct Body {
    /// Base64 digits of a group of four that was cut by the end of a buffer.
    carry: Vec<u8>,
    ended: bool,
}

impl Body {
    /// Begins to read a body: everything up to its opening quote.
    pub(super) fn begin(input: &mut impl BufRead) -> io::Result<Self> {
        loop {
            let bytes = input.fill_buf()?;
            let Some(first) = bytes.first() else { return Err(io::ErrorKind::UnexpectedEof.into()) };
            let quote = *first == b'"';
            if !quote && !first.is_ascii_whitespace() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a put without its body"));
            }
            input.consume(1);
            if quote {
                return Ok(Self { carry: Vec::with_capacity(4), ended: false });
            }
        }
    }

    /// Appends decoded bytes to `piece` until it holds [`PIECE_LEN`] or the body ends.
    /// Returns whether the body has ended.
    pub(super) fn next_piece(&mut self, input: &mut impl BufRead, piece: &mut Vec<u8>) -> io::Result<bool> {
        while !self.ended && piece.len() < PIECE_LEN {
            let bytes = input.fill_buf()?;
            if bytes.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let room = (PIECE_LEN - piece.len()).div_ceil(3) * 4;
            let bytes = &bytes[..bytes.len().min(room)];
            let quote = bytes.iter().position(|byte| *byte == b'"');
            let digits = &bytes[..quote.unwrap_or(bytes.len())];
            self.decode(digits, piece)?;
            let used = digits.len() + usize::from(quote.is_some());
            self.ended = quote.is_some();
            input.consume(used);
        }
        if self.ended && !self.carry.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a body's base64 was cut short"));
        }
        Ok(self.ended)
    }

    fn decode(&mut self, mut digits: &[u8], piece: &mut Vec<u8>) -> io::Result<()> {
        if !self.carry.is_empty() {
            let len = digits.len().min(4 - self.carry.len());
            self.carry.extend_from_slice(&digits[..len]);
            digits = &digits[len..];
            if self.carry.len() < 4 {
                return Ok(());
            }
            let group = std::mem::take(&mut self.carry);
            append(&group, piece)?;
        }
        let whole = digits.len() & !3;
        append(&digits[..whole], piece)?;
        self.carry.extend_from_slice(&digits[whole..]);
        Ok(())
    }
}

fn append(digits: &[u8], piece: &mut Vec<u8>) -> io::Result<()> {
    STANDARD.decode_vec(digits, piece).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// A hit, as one JSON line.
pub(super) fn hit(id: i64, output: &[u8; 32], size: u64, time_ns: u64, path: &str) -> Vec<u8> {
    let mut line = format!("{{\"ID\":{id},\"OutputID\":\"").into_bytes();
    line.extend_from_slice(STANDARD.encode(output).as_bytes());
    line.extend_from_slice(format!("\",\"Size\":{size},\"Time\":\"{}\"", rfc3339(time_ns)).as_bytes());
    end_with_path(line, path)
}

/// A miss, as one JSON line.
pub(super) fn miss(id: i64) -> Vec<u8> {
    format!("{{\"ID\":{id},\"Miss\":true}}\n").into_bytes()
}

/// The answer to a put, as one JSON line.
pub(super) fn stored(id: i64, path: &str) -> Vec<u8> {
    end_with_path(format!("{{\"ID\":{id}").into_bytes(), path)
}

/// The answer to a close, as one JSON line.
pub(super) fn closed(id: i64) -> Vec<u8> {
    format!("{{\"ID\":{id}}}\n").into_bytes()
}

/// The answer to a command that is not known, as one JSON line.
pub(super) fn unknown(id: i64, command: &str) -> Vec<u8> {
    let shown: String = command.chars().take(80).collect();
    let text = serde_json::Value::from(format!("unknown command {shown:?}"));
    format!("{{\"ID\":{id},\"Err\":{text}}}\n").into_bytes()
}

fn end_with_path(mut line: Vec<u8>, path: &str) -> Vec<u8> {
    let path = serde_json::Value::from(path);
    line.extend_from_slice(format!(",\"DiskPath\":{path}}}\n").as_bytes());
    line
}

/// A moment as cmd/go reads it, in UTC.
fn rfc3339(time_ns: u64) -> String {
    let (seconds, nanos) = (time_ns / 1_000_000_000, time_ns % 1_000_000_000);
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Counted in eras of 400 years from 1 March 0000, so that a leap day is the last day of its year.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use proptest::prelude::*;

    use super::*;

    fn whole_body(text: &[u8], buffer: usize) -> io::Result<(Vec<u8>, usize)> {
        let mut input = BufReader::with_capacity(buffer, text);
        let mut body = Body::begin(&mut input)?;
        let (mut all, mut largest) = (Vec::new(), 0);
        loop {
            let mut piece = Vec::new();
            let ended = body.next_piece(&mut input, &mut piece)?;
            largest = largest.max(piece.len());
            all.extend_from_slice(&piece);
            if ended {
                return Ok((all, largest));
            }
        }
    }

    proptest! {
        #[test]
        fn a_body_is_the_same_wherever_the_pipe_cuts_it(body: Vec<u8>, buffer in 1_usize..40) {
            let text = format!("\n\"{}\"\n", STANDARD.encode(&body));
            prop_assert_eq!(whole_body(text.as_bytes(), buffer).unwrap().0, body);
        }

        #[test]
        fn noise_is_refused_without_a_panic(noise: Vec<u8>) {
            let _ = whole_body(&noise, 7);
            let _ = read_request(&mut noise.as_slice());
        }
    }

    #[test]
    fn a_large_body_never_lies_in_memory_as_a_whole() {
        let body: Vec<u8> = (0..1_000_003_u32).map(|n| n.to_le_bytes()[0]).collect();
        let text = format!("\"{}\"\n", STANDARD.encode(&body));
        let (read, largest) = whole_body(text.as_bytes(), 64 << 10).unwrap();
        assert_eq!(read, body);
        assert!(largest <= PIECE_LEN, "{largest}");
    }

    #[test]
    fn a_request_is_read_as_cmd_go_writes_it() {
        let id = STANDARD.encode([9_u8; 32]);
        let text =
            format!("\n{{\"ID\":7,\"Command\":\"put\",\"ActionID\":\"{id}\",\"BodySize\":3,\"New\":[1]}}\n");
        let Incoming::Request(request) = read_request(&mut text.as_bytes()).unwrap() else { panic!() };
        assert_eq!((request.id, request.command.as_str(), request.body_size), (7, "put", 3));
        assert_eq!(request.action(), Some([9; 32]));
        assert_eq!(request.output(), None);
    }

    #[test]
    fn an_endless_line_is_let_go_and_the_next_request_is_found() {
        let mut text = vec![b'x'; 10 * LINE_LEN_MAX];
        text.extend_from_slice(b"\n{\"ID\":1,\"Command\":\"close\"}\n");
        let mut input = text.as_slice();
        assert_eq!(read_request(&mut input).unwrap(), Incoming::Noise);
        assert!(matches!(read_request(&mut input).unwrap(), Incoming::Request(Request { id: 1, .. })));
        assert_eq!(read_request(&mut input).unwrap(), Incoming::End);
    }

    #[test]
    fn answers_are_json_whatever_the_path_holds() {
        for line in [hit(1, &[2; 32], 3, 4, "/a \"b\"\\\n"), stored(1, "/a \"b\"\\\n")] {
            let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
            assert_eq!(value["DiskPath"], "/a \"b\"\\\n");
        }
        let value: serde_json::Value = serde_json::from_slice(&unknown(5, "\"}{")).unwrap();
        assert_eq!(value["ID"], 5);
    }

    #[test]
    fn moments_are_written_as_cmd_go_reads_them() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(rfc3339(951_782_399_000_000_001), "2000-02-28T23:59:59.000000001Z");
        assert_eq!(rfc3339(951_782_400_000_000_000), "2000-02-29T00:00:00.000000000Z");
        assert_eq!(rfc3339(1_795_354_445_120_000_000), "2026-11-22T13:34:05.120000000Z");
    }
}
