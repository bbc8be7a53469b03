//! Dumps on their way: compressed by the ending of their name, read back by their first bytes, counted for a progress bar.

use std::io::{self, SeekFrom};
use std::path::Path;
use std::pin::Pin;
use std::task::{self, Poll, ready};

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use async_compression::tokio::write::{GzipEncoder, ZstdEncoder};
use tokio::fs::File;
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncSeek, AsyncSeekExt as _, AsyncWrite, AsyncWriteExt as _,
    BufReader, ReadBuf,
};

use crate::progress::Progress;

/// How much is read or written at once.
const PIECE: usize = 1 << 20;

/// An output of a dump.
pub(crate) type Out = Box<dyn AsyncWrite + Send + Unpin>;

/// How a dump is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Plain,
    Gzip,
    Zstd,
}

impl Coding {
    /// By a file's name: `.gz`, `.zst`, anything else is plain.
    pub(crate) fn of(file: &Path) -> Self {
        let is = |ending: &str| file.extension().is_some_and(|given| given.eq_ignore_ascii_case(ending));
        if is("gz") {
            Self::Gzip
        } else if is("zst") || is("zstd") {
            Self::Zstd
        } else {
            Self::Plain
        }
    }
    /// By the first bytes; a dump that is not compressed begins with a brace.
    fn found(beginning: &[u8]) -> Self {
        match beginning {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }
    /// An output that compresses; what is written last comes out when it is shut down.
    pub(crate) fn encode(self, out: impl AsyncWrite + Send + Unpin + 'static) -> Out {
        match self {
            Self::Plain => Box::new(out),
            Self::Gzip => Box::new(GzipEncoder::new(out)),
            Self::Zstd => Box::new(ZstdEncoder::new(out)),
        }
    }
}

/// A dump that can be read twice: a plain file as it is, everything else spooled into a file without a name.
#[derive(Debug)]
pub(crate) struct Spooled {
    file: BufReader<File>,
    length: u64,
}

impl Spooled {
    /// Opens a file.
    pub(crate) async fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path).await?;
        let metadata = file.metadata().await?;
        let mut reader = BufReader::with_capacity(PIECE, file);
        if metadata.is_file() && Coding::found(reader.fill_buf().await?) == Coding::Plain {
            return Ok(Self { file: reader, length: metadata.len() });
        }
        Self::take(reader).await
    }
    /// Takes what can be read only once.
    pub(crate) async fn take(from: impl AsyncRead + Unpin) -> io::Result<Self> {
        let mut reader = BufReader::with_capacity(PIECE, from);
        let mut spool = Spool::new()?;
        match Coding::found(reader.fill_buf().await?) {
            Coding::Plain => tokio::io::copy_buf(&mut reader, &mut spool.0).await?,
            Coding::Gzip => {
                let mut decoder = GzipDecoder::new(reader);
                decoder.multiple_members(true);
                tokio::io::copy(&mut decoder, &mut spool.0).await?
            }
            Coding::Zstd => {
                let mut decoder = ZstdDecoder::new(reader);
                decoder.multiple_members(true);
                tokio::io::copy(&mut decoder, &mut spool.0).await?
            }
        };
        spool.done().await
    }
    /// To the beginning.
    pub(crate) async fn rewind(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0)).await.map(|_| ())
    }
    /// As a source whose reading moves a bar.
    pub(crate) fn watched<'s>(&'s mut self, progress: &'s Progress) -> Watched<'s> {
        let length = self.length;
        Watched { inner: &mut self.file, progress, length, at: 0 }
    }
    /// Its lines.
    pub(crate) fn reader(&mut self) -> &mut (impl AsyncBufRead + AsyncSeek + Send + Unpin + use<>) {
        &mut self.file
    }
}

/// A file without a name that a dump is written into.
pub(crate) struct Spool(tokio::io::BufWriter<File>);

impl Spool {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(tokio::io::BufWriter::with_capacity(PIECE, File::from_std(tempfile::tempfile()?))))
    }
    pub(crate) fn out(&mut self) -> &mut (impl AsyncWrite + Send + Unpin + use<>) {
        &mut self.0
    }
    /// What was written, from its beginning.
    pub(crate) async fn done(mut self) -> io::Result<Spooled> {
        self.0.flush().await?;
        let mut file = self.0.into_inner();
        let length = file.seek(SeekFrom::End(0)).await?;
        file.rewind().await?;
        Ok(Spooled { file: BufReader::with_capacity(PIECE, file), length })
    }
}

/// A source that shows how far it was read.
pub(crate) struct Watched<'s> {
    inner: &'s mut BufReader<File>,
    progress: &'s Progress,
    length: u64,
    at: u64,
}

impl AsyncRead for Watched<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, out)
    }
}

impl AsyncBufRead for Watched<'_> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<&[u8]>> {
        Pin::new(&mut self.get_mut().inner).poll_fill_buf(cx)
    }
    fn consume(mut self: Pin<&mut Self>, count: usize) {
        let before = self.at / PIECE as u64;
        self.at += count as u64;
        if self.at / PIECE as u64 != before {
            self.progress.set(self.at, self.length);
        }
        Pin::new(&mut self.inner).consume(count);
    }
}

impl AsyncSeek for Watched<'_> {
    fn start_seek(mut self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        Pin::new(&mut self.inner).start_seek(to)
    }
    fn poll_complete(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<u64>> {
        let at = ready!(Pin::new(&mut self.inner).poll_complete(cx))?;
        self.at = at;
        Poll::Ready(Ok(at))
    }
}

/// An output that remembers why it failed, because the store only knows that its dump did not get through; and that shows
/// how much went through.
pub(crate) struct Outgoing<'p, W> {
    pub(crate) inner: W,
    failed: Option<io::Error>,
    progress: Option<&'p Progress>,
    written: u64,
}

impl<'p, W: AsyncWrite + Unpin> Outgoing<'p, W> {
    pub(crate) fn new(inner: W, progress: Option<&'p Progress>) -> Self {
        Self { inner, failed: None, progress, written: 0 }
    }
    /// Why it failed, if it did.
    pub(crate) fn why(&mut self) -> Option<io::Error> {
        self.failed.take()
    }
    fn watch<T>(&mut self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &polled {
            let same = error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
            self.failed.get_or_insert(same);
        }
        polled
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Outgoing<'_, W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, bytes);
        if let (Poll::Ready(Ok(count)), Some(progress)) = (&polled, self.progress) {
            self.written += *count as u64;
            progress.count(self.written);
        }
        self.watch(polled)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(cx);
        self.watch(polled)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.watch(polled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn what_was_compressed_is_read_back_by_its_first_bytes() {
        let text = "{\"storage_dump\":1}\n".repeat(100_000);
        for (name, coding) in [("a.jsonl", Coding::Plain), ("a.jsonl.GZ", Coding::Gzip), ("a.zst", Coding::Zstd)] {
            assert_eq!(Coding::of(Path::new(name)), coding);
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("no ending");
            let mut out = coding.encode(File::create(&path).await.unwrap());
            out.write_all(text.as_bytes()).await.unwrap();
            out.shutdown().await.unwrap();
            for mut spooled in
                [Spooled::open(&path).await.unwrap(), Spooled::take(File::open(&path).await.unwrap()).await.unwrap()]
            {
                let mut back = String::new();
                spooled.reader().read_to_string(&mut back).await.unwrap();
                assert!(back == text && spooled.length == text.len() as u64, "{name}");
            }
        }
    }
}
