//! Masks secrets in text before it leaves the agent.
//!
//! Build tools print more than they should: a command line with a token, a URL with a password, an environment.
//! A [`Redactor`] stands between what they print and the log's spool and replaces two kinds of text by
//! [`MASK`]: *declared* secrets, in each of the forms in which tools print them, and text whose *shape* says
//! that it is a secret although nobody declared it.
//!
//! # What is found
//! A declared secret is looked for in the text as it stands and as it reads decoded: percent encoding (all or
//! only reserved characters, either case, `+` for a blank), backslash escapes as JSON, Go and shells write them
//! (also JSON within JSON), hex, and base64 in both alphabets, padded or not, at any offset within a longer
//! encoded text, in one line or wrapped. Reading the text decoded, rather than listing encoded forms, is what
//! covers *mixed* forms, and masks the characters at the edges that a secret shares with its neighbours.
//! Of a secret of several lines the whole is looked for, with either line break, and each line by itself, so that
//! a prefix which a logger puts before each line hides nothing. Which shapes are known stands in `shapes.rs`.
//!
//! # What the result depends on
//! On the text alone: pushing a text byte by byte gives what pushing it at once gives, because every recogniser
//! moves byte by byte and holds back exactly what it has not decided. What is masked is the union of all that
//! was found; text that touches or overlaps becomes one [`MASK`], and output is never read again.
//!
//! # What is held back
//! Only text that may yet turn out to be secret: the begin of a declared secret (of at most 512 bytes as they are
//! read; longer secrets are looked for in pieces), the last digit of a word that may go on, or a shape that is not
//! decided (a URL's password until its `@` or `/`, at most 1 KiB; a token until it is long enough; a JWT's header, at
//! most 16 KiB; some 400 bytes after a private key's first line). It waits for more text or the end, however long
//! that takes: releasing it after a time would release a secret's first half to whoever prints slowly. The price
//! is that the last characters of such a line appear late. At the end of the text, six or more bytes that begin a
//! declared secret are masked too: it may have been cut off there.
//!
//! # What is refused
//! Secrets that would mask half of the log: see [`Secret::new`].
//!
//! Not here: where secrets come from, and text that was compressed, encrypted or reordered before it was printed.
//! A program that wants to print a secret can. Of a secret of several lines, a line shorter than six bytes stays
//! readable where it stands apart from the others.

mod escapes;
mod marks;
mod needles;
mod redactor;
mod runs;
mod secret;
mod shapes;
mod track;
mod views;

pub use redactor::{MASK, Redaction, Redactor};
pub use secret::{Secret, SecretError};
