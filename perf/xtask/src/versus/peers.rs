//! The program at the ends: a sender of as many bytes as it is asked for, and its receiver.
//!
//! Both senders under test run the same one: straight on the kernel's TCP, or as the backend behind
//! Millrace. Threads, each of which enters the namespace that it works in; the process stays outside.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::interrupt;

/// How long a thread may take to see that it shall end.
const TICK: Duration = Duration::from_millis(200);
/// A transfer that brings nothing for so long is given up: far beyond any retransmission timeout that
/// the losses here lead to.
const SILENCE_LIMIT: Duration = Duration::from_secs(90);
/// What is written or read at a time.
const BLOCK: usize = 256 << 10;

/// Moves the calling thread into a namespace made by `ip netns`.
fn enter(namespace: &str) -> Result<()> {
    let path = Path::new("/run/netns").join(namespace);
    let file = File::open(&path).with_context(|| path.display().to_string())?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .with_context(|| format!("cannot enter {namespace}"))
}

/// Listens until it is dropped.
pub(super) struct Server {
    shall_end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens in a namespace; with `congestion`, connections are sent on by that algorithm.
    pub(super) fn start(
        namespace: &str,
        address: SocketAddrV4,
        congestion: Option<&'static str>,
    ) -> Result<Self> {
        let shall_end = Arc::new(AtomicBool::new(false));
        let (namespace, flag) = (namespace.to_owned(), Arc::clone(&shall_end));
        let (say, hear) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let opened = enter(&namespace).and_then(|()| listen(address, congestion));
            match opened {
                Ok(listener) => {
                    // The one who started this waits for the word.
                    let _ = say.send(Ok(()));
                    serve(&listener, &flag);
                }
                Err(error) => _ = say.send(Err(error)),
            }
        });
        let said = hear.recv().map_err(|_| anyhow!("a server's thread died"));
        said??;
        Ok(Self {
            shall_end,
            thread: Some(thread),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The flag guards no other data.
        self.shall_end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen(address: SocketAddrV4, congestion: Option<&str>) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| format!("bind {address}"))?;
    if let Some(name) = congestion {
        sockopt::set_tcp_congestion(&listener, name)
            .with_context(|| format!("this kernel has no congestion control `{name}`"))?;
    }
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn serve(listener: &TcpListener, shall_end: &Arc<AtomicBool>) {
    let tick = Timespec::try_from(TICK).ok();
    let mut senders: Vec<JoinHandle<()>> = Vec::new();
    while !shall_end.load(Ordering::Relaxed) {
        let mut waited = [PollFd::new(listener, PollFlags::IN)];
        let _ = poll(&mut waited, tick.as_ref());
        while let Ok((stream, _)) = listener.accept() {
            let shall_end = Arc::clone(shall_end);
            senders.push(std::thread::spawn(move || {
                // The receiver reports what did not arrive.
                let _ = send(stream, &shall_end);
            }));
        }
        senders.retain(|sender| !sender.is_finished());
    }
    for sender in senders {
        let _ = sender.join();
    }
}

/// Reads a number of eight bytes, sends so many bytes, closes, and waits for the other's end.
fn send(mut stream: TcpStream, shall_end: &AtomicBool) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(SILENCE_LIMIT))?;
    stream.set_write_timeout(Some(TICK))?;
    let mut asked = [0; 8];
    stream.read_exact(&mut asked)?;
    let mut left = u64::from_be_bytes(asked);
    let block = vec![0x5a; BLOCK];
    while left > 0 && !shall_end.load(Ordering::Relaxed) {
        let part = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        match stream.write(&block[..part]) {
            Ok(written) => left -= written as u64,
            Err(error) if is_tick(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(TICK))?;
    let mut rest = [0; 16];
    while !shall_end.load(Ordering::Relaxed) {
        match stream.read(&mut rest) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if is_tick(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn is_tick(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

/// Receives `bytes` bytes from `target` in a namespace, from an address of its own there. How long it
/// took, from the connection's first segment to the last byte. Given up at `end`. To be called on a
/// thread of its own.
pub(super) fn receive(
    namespace: &str,
    from: Ipv4Addr,
    target: SocketAddrV4,
    bytes: u64,
    end: Instant,
) -> Result<Duration> {
    enter(namespace)?;
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::net::bind(&socket, &SocketAddrV4::new(from, 0))
        .with_context(|| format!("cannot receive at {from}"))?;
    let start = Instant::now();
    rustix::net::connect(&socket, &target).with_context(|| format!("connect to {target}"))?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(TICK))?;
    stream.write_all(&bytes.to_be_bytes())?;
    let mut block = vec![0; BLOCK];
    let (mut arrived, mut last) = (0, Instant::now());
    loop {
        match stream.read(&mut block) {
            Ok(0) => break,
            Ok(part) => {
                arrived += part as u64;
                last = Instant::now();
                ensure!(last < end, "{arrived} bytes until the time was over");
            }
            Err(error) if is_tick(&error) => {
                interrupt::check()?;
                let silence = last.elapsed();
                ensure!(
                    silence < SILENCE_LIMIT,
                    "{arrived} bytes, then nothing for {} s",
                    silence.as_secs()
                );
            }
            Err(error) => return Err(error).context(format!("after {arrived} bytes")),
        }
    }
    ensure!(
        arrived == bytes,
        "the stream ended after {arrived} of {bytes} bytes"
    );
    Ok(last - start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_sends_what_it_is_asked_for_and_then_closes() {
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
        let listener = listen(address, None).expect("listens");
        let port = listener.local_addr().expect("an address").port();
        let shall_end = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&shall_end);
        let server = std::thread::spawn(move || serve(&listener, &flag));
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connects");
        let bytes = BLOCK as u64 + 77;
        stream.write_all(&bytes.to_be_bytes()).expect("asks");
        let mut arrived = Vec::new();
        stream.read_to_end(&mut arrived).expect("reads");
        assert_eq!(arrived.len() as u64, bytes);
        drop(stream);
        shall_end.store(true, Ordering::Relaxed);
        server.join().expect("no panic");
    }
}
