//! System calls that no safe crate wraps in the required form. The only file of this crate with `unsafe`.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::ReadBuf;

/// Receives into the unfilled part of `buffer`, at most `limit` bytes, without clearing it first. Never waits, even if
/// the socket is in blocking mode, as another owner may have set it.
pub(crate) fn receive(socket: &mio::net::TcpStream, buffer: &mut ReadBuf<'_>, limit: usize) -> io::Result<usize> {
    // SAFETY: the slice is handed to recv(2) only, through socket2, which writes initialised bytes and nothing else.
    let room: &mut [MaybeUninit<u8>] = unsafe { buffer.unfilled_mut() };
    let room = match room.get_mut(..limit) {
        Some(part) => part,
        None => room,
    };
    let received = socket2::SockRef::from(socket).recv_with_flags(room, libc::MSG_DONTWAIT)?;
    // SAFETY: recv(2) has written that many bytes at the front of the unfilled part.
    unsafe { buffer.assume_init(received) };
    buffer.advance(received);
    Ok(received)
}

/// Sends up to `length` bytes of `file` from `offset` on, which the kernel copies (sendfile(2)). Returns 0 at the
/// file's end.
#[cfg(target_os = "linux")]
pub(crate) fn send_file(socket: RawFd, file: RawFd, offset: u64, length: usize) -> io::Result<usize> {
    let mut offset = libc::off_t::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
    // SAFETY: both descriptors are only numbers to the kernel, and `offset` outlives the call.
    let sent = unsafe { libc::sendfile(socket, file, &mut offset, length) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Replaces the polling instance behind an inherited descriptor by a new, empty one: the number stays valid for those
/// that watch it, and this process no longer shares its parent's registrations.
#[cfg(target_os = "linux")]
pub(crate) fn replace_poll(descriptor: RawFd) -> io::Result<()> {
    // SAFETY: plain system calls on numbers; the new descriptor is closed again in every case.
    unsafe {
        let fresh = libc::epoll_create1(libc::EPOLL_CLOEXEC);
        if fresh < 0 {
            return Err(io::Error::last_os_error());
        }
        let result = libc::dup3(fresh, descriptor, libc::O_CLOEXEC);
        let error = io::Error::last_os_error();
        libc::close(fresh);
        if result < 0 { Err(error) } else { Ok(()) }
    }
}

/// Fills the number of the descriptor again: a fork does not pass on kqueue descriptors, so nothing is shared.
#[cfg(not(target_os = "linux"))]
pub(crate) fn replace_poll(descriptor: RawFd) -> io::Result<()> {
    // SAFETY: as above.
    unsafe {
        let fresh = libc::kqueue();
        if fresh < 0 {
            return Err(io::Error::last_os_error());
        }
        if fresh == descriptor {
            return Ok(());
        }
        let result = libc::dup2(fresh, descriptor);
        let error = io::Error::last_os_error();
        libc::close(fresh);
        if result < 0 { Err(error) } else { Ok(()) }
    }
}

/// Returns the number behind a socket, for the calls above.
#[cfg(target_os = "linux")]
pub(crate) fn descriptor(socket: &mio::net::TcpStream) -> RawFd {
    socket.as_raw_fd()
}

static FORKS: AtomicU32 = AtomicU32::new(0);

/// Returns the number of forks between this process and the one that first called [`count_forks`]. Two different
/// numbers are two different processes.
pub(crate) fn forks() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// Counts the child of each fork from now on, before any other code runs in it. Fails only if there is no memory left.
pub(crate) fn count_forks() -> io::Result<()> {
    extern "C" fn in_child() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    static REFUSED: OnceLock<i32> = OnceLock::new();
    // SAFETY: the handler does one atomic operation, which may be done in the child of a process with threads.
    match *REFUSED.get_or_init(|| unsafe { libc::pthread_atfork(None, None, Some(in_child)) }) {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    /// Miri runs this test: it would find a byte that counts as written but was not.
    #[test]
    fn test_receive_fills_only_the_unfilled_part() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, _) = listener.accept().unwrap();
        ours.set_nonblocking(true).unwrap();
        let ours = mio::net::TcpStream::from_std(ours);
        let mut room = [const { MaybeUninit::uninit() }; 16];
        let mut buffer = ReadBuf::uninit(&mut room);
        buffer.put_slice(b"before ");
        assert_eq!(receive(&ours, &mut buffer, 4).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        peer.write_all(b"1234567890123").unwrap();
        assert_eq!(receive(&ours, &mut buffer, 4).unwrap(), 4);
        assert_eq!(buffer.filled(), b"before 1234");
        assert_eq!(receive(&ours, &mut buffer, usize::MAX).unwrap(), 5);
        assert_eq!(buffer.filled(), b"before 123456789");
        drop(peer);
    }
}
