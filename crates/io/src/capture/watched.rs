//! Pipes that may stay quiet, read so that somebody can look up now and then.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;

/// How long a quiet pipe is waited for before [`io::ErrorKind::WouldBlock`], ms.
const TICK_MS: libc::c_int = 20;

/// Asked now and then while a pipe is quiet; its error ends the wait, and comes back as
/// [`CaptureError::Read`](super::CaptureError::Read).
pub type Look = Box<dyn FnMut() -> io::Result<()> + Send>;

/// A file or pipe that is never waited for long: where nothing came for some milliseconds, or a signal did, reading fails
/// with [`io::ErrorKind::WouldBlock`], and can be tried again.
#[derive(Debug)]
pub struct Watched {
    file: File,
    /// A regular file always has something, if only its end.
    can_be_quiet: bool,
}

impl Watched {
    /// Watches an open file.
    ///
    /// # Errors
    ///
    /// What the operating system says when asked what kind of file it is.
    pub fn new(file: File) -> io::Result<Watched> {
        let can_be_quiet = !file.metadata()?.is_file();
        Ok(Watched { file, can_be_quiet })
    }
}

impl Read for Watched {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.can_be_quiet {
            let mut wait = libc::pollfd { fd: self.file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one entry is given.
            let ready = unsafe { libc::poll(&mut wait, 1, TICK_MS) };
            if ready == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            if ready < 0 {
                return Err(nothing_yet(io::Error::last_os_error()));
            }
        }
        self.file.read(into).map_err(nothing_yet)
    }
}

/// A signal is a reason to look up, not a failure.
fn nothing_yet(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::Interrupted { io::ErrorKind::WouldBlock.into() } else { error }
}
