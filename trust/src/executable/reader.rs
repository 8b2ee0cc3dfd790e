//! An executable whose headers were read; everything else is read when it is asked for.

use meridian_core::digest::Digest;

use super::{
    build_id::{BuildId, Integrity},
    build_info::{self, BuildInfo, BuildInfoError},
    function_table::FunctionTable,
    layout::{ExecutableError, Format, Layout, Section},
    symbol::{self, Symbol},
};

/// An executable in memory.
#[derive(Debug, Clone)]
pub struct Executable<'data> {
    data: &'data [u8],
    layout: Layout,
}

/// A section and the SHA-256 of its bytes in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SectionDigest {
    /// The section.
    pub section: Section,
    /// The digest; of nothing for a section that is only reserved.
    pub digest: Digest,
}

impl<'data> Executable<'data> {
    /// Reads the headers of an executable.
    ///
    /// # Errors
    /// When the bytes are no ELF, Mach-O, PE or wasm executable, break the container's rules, or end before a part
    /// that the headers promise.
    pub fn parse(data: &'data [u8]) -> Result<Self, ExecutableError> {
        Ok(Self { data, layout: Layout::read(data)? })
    }

    /// The container.
    #[must_use]
    pub fn format(&self) -> Format {
        self.layout.format
    }

    /// GOARCH, from the container's header; `None` for a machine that Go has no name for.
    #[must_use]
    pub fn architecture(&self) -> Option<&'static str> {
        self.layout.architecture
    }

    /// The named parts of the file, in the order of its headers.
    #[must_use]
    pub fn sections(&self) -> &[Section] {
        &self.layout.sections
    }

    /// Each section with the digest of its bytes.
    #[must_use]
    pub fn section_digests(&self) -> Vec<SectionDigest> {
        let digest = |section: &Section| SectionDigest {
            section: section.clone(),
            digest: Digest::of(self.section_data(section)),
        };
        self.layout.sections.iter().map(digest).collect()
    }

    /// A section's bytes in the file; nothing for one that is only reserved, or that is another file's.
    #[must_use]
    pub fn section_data(&self, section: &Section) -> &'data [u8] {
        section.range().and_then(|range| self.data.get(range)).unwrap_or_default()
    }

    /// What it says of its own build.
    ///
    /// # Errors
    /// When it was not built by Go, or by one of before 1.18, or its build info breaks the format.
    pub fn build_info(&self) -> Result<BuildInfo, BuildInfoError> {
        build_info::find(&self.layout, self.data)
    }

    /// Go's build id; `None` when there is none.
    #[must_use]
    pub fn build_id(&self) -> Option<BuildId> {
        BuildId::find(&self.layout, self.data)
    }

    /// Whether it is as the go command left it. Hashes the whole file.
    #[must_use]
    pub fn integrity(&self) -> Integrity {
        self.build_id().map_or(Integrity::Unknown, |id| id.integrity(&self.layout, self.data))
    }

    /// The symbols by address, each with a size; none when it is stripped.
    #[must_use]
    pub fn symbols(&self) -> Vec<Symbol<'data>> {
        symbol::by_address(&self.layout, symbol::read(&self.layout, self.data))
    }

    /// The functions of Go's own table, which is there even when symbols are stripped; `None` for wasm and for
    /// what was not built by Go 1.18 or later.
    #[must_use]
    pub fn functions(&self) -> Option<FunctionTable<'data>> {
        FunctionTable::find(&self.layout, self.data, &symbol::read(&self.layout, self.data))
    }

    pub(super) fn data(&self) -> &'data [u8] {
        self.data
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }
}
