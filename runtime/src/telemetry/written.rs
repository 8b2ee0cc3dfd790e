//! What a test's log wrote.

use std::{
    io,
    sync::{Arc, Mutex},
};

use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// A log in memory. Clones write to the same one.
#[derive(Clone, Default)]
pub(super) struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    pub(super) fn writer(&self) -> BoxMakeWriter {
        let written = self.clone();
        BoxMakeWriter::new(move || written.clone())
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
