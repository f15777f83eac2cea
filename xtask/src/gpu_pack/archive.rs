//! A compressed archive, of which the same files make the same bytes.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, Header};

/// An archive that is being written.
pub(super) struct Archive {
    path: PathBuf,
    folder: PathBuf,
    tar: Builder<GzEncoder<File>>,
}

impl Archive {
    /// Begins an archive of one folder.
    pub(super) fn create(path: &Path, folder: &str) -> anyhow::Result<Self> {
        let context = || format!("{}: cannot be written", path.display());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(context)?;
        }
        let file = File::create(path).with_context(context)?;
        let tar = Builder::new(GzEncoder::new(file, Compression::best()));
        Ok(Self { path: path.to_owned(), folder: folder.into(), tar })
    }

    /// Adds a file.
    pub(super) fn file(&mut self, name: &str, from: &Path, is_program: bool) -> anyhow::Result<()> {
        self.add(Path::new(name), from, is_program)
    }

    /// Adds a file that holds this text.
    pub(super) fn text(&mut self, name: &str, text: &str, is_program: bool) -> anyhow::Result<()> {
        let path = self.folder.join(name);
        let mut header = header(text.len() as u64, is_program);
        Ok(self.tar.append_data(&mut header, path, text.as_bytes())?)
    }

    /// Adds the files of a folder, not those of folders in it.
    pub(super) fn folder(&mut self, name: &Path, from: &Path) -> anyhow::Result<()> {
        let context = || format!("{}: cannot be read", from.display());
        let mut files: Vec<PathBuf> = fs::read_dir(from)
            .and_then(|it| it.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>())
            .with_context(context)?;
        files.retain(|it| it.is_file());
        files.sort();
        for file in files {
            let name = name.join(file.file_name().unwrap_or_default());
            self.add(&name, &file, false)?;
        }
        Ok(())
    }

    fn add(&mut self, name: &Path, from: &Path, is_program: bool) -> anyhow::Result<()> {
        let context = || format!("{}: cannot be packed", from.display());
        let file = File::open(from).with_context(context)?;
        let len = file.metadata().with_context(context)?.len();
        let path = self.folder.join(name);
        self.tar.append_data(&mut header(len, is_program), path, file).with_context(context)
    }

    /// Writes the end, and returns how large the archive has become.
    pub(super) fn finish(self) -> anyhow::Result<u64> {
        let context = || format!("{}: cannot be written", self.path.display());
        let file = self.tar.into_inner().and_then(GzEncoder::finish).with_context(context)?;
        Ok(file.metadata().with_context(context)?.len())
    }
}

fn header(len: u64, is_program: bool) -> Header {
    let mut header = Header::new_gnu();
    header.set_size(len);
    header.set_mode(if is_program { 0o755 } else { 0o644 });
    header
}
