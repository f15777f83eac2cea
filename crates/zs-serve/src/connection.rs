//! Sockets of clients: writes that must make progress, and the departure of a client while its request
//! is in progress.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Bytes that a client must read within each timeout.
const PROGRESS: usize = 64 << 10;

/// Pause between looks at a client that sent more than one request at once.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Socket of a client. Writing fails once the client has read fewer than 64 KiB within a timeout.
#[derive(Debug)]
pub(crate) struct Socket {
    read: Arc<OwnedReadHalf>,
    write: OwnedWriteHalf,
    timeout: Duration,
    /// End of the time for the bytes being written; none while nothing is.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Bytes written since the deadline was set.
    written: usize,
}

/// A client, seen from the requests that it waits for.
#[derive(Clone, Debug)]
pub(crate) struct Client(Arc<OwnedReadHalf>);

impl Socket {
    pub(crate) fn new(stream: TcpStream, timeout: Duration) -> Self {
        let (read, write) = stream.into_split();
        Self { read: Arc::new(read), write, timeout, deadline: None, written: 0 }
    }

    pub(crate) fn client(&self) -> Client {
        Client(Arc::clone(&self.read))
    }

    /// Fails when the time for the bytes being written is over.
    fn check_deadline(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let is_over = self.deadline.as_mut().is_some_and(|it| it.as_mut().poll(context).is_ready());
        match is_over {
            true => Err(io::Error::new(io::ErrorKind::TimedOut, "the client stopped reading")),
            false => Ok(()),
        }
    }

    fn poll_write_with(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut OwnedWriteHalf>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let socket = &mut *self;
        let end = Instant::now() + socket.timeout;
        let deadline = socket.deadline.get_or_insert_with(|| Box::pin(sleep_until(end)));
        match write(Pin::new(&mut socket.write), context) {
            Poll::Ready(Ok(count)) => {
                socket.written += count;
                if socket.written >= PROGRESS {
                    deadline.as_mut().reset(end);
                    socket.written = 0;
                }
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                socket.check_deadline(context)?;
                Poll::Pending
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream: &TcpStream = (*self.read).as_ref();
        loop {
            ready!(stream.poll_read_ready(context))?;
            match stream.try_read(buffer.initialize_unfilled()) {
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(context, |it, context| it.poll_write(context, buffer))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(context, |it, context| it.poll_write_vectored(context, buffers))
    }

    fn is_write_vectored(&self) -> bool {
        self.write.is_write_vectored()
    }

    /// Hyper flushes once it has written all that it has.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.write).poll_flush(context))?;
        (self.deadline, self.written) = (None, 0);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_shutdown(context)
    }
}

impl Client {
    /// Waits until the client has closed its side of the connection.
    pub(crate) async fn left(&self) {
        loop {
            match self.0.ready(Interest::READABLE).await {
                Ok(ready) if !ready.is_read_closed() => tokio::time::sleep(LOOK_PAUSE).await,
                _ => return,
            }
        }
    }
}
