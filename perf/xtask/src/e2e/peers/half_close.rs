//! The two peers that nobody ships: a server that answers only after the client's FIN, and its client.
//!
//! rsync over ssh, `nc -N` and HTTP/1.0 uploads close one direction and go on reading. A proxy that takes the
//! first FIN for the end of the session cuts them off.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};

use super::super::data::{MIB, Pattern, digest_of, hex};

/// Nothing here is silent for longer.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// Arguments of the hidden `xtask peer`.
#[derive(Args)]
pub(crate) struct PeerArguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Reads to the end of the stream, then sends and closes.
    Serve { listen: Vec<SocketAddr> },
    /// Sends, closes its sending side, then reads to the end and compares.
    Ask {
        target: SocketAddr,
        send_mib: u64,
        expect_mib: u64,
    },
}

/// Runs one of the two.
pub(crate) fn run(arguments: &PeerArguments) -> Result<()> {
    match &arguments.role {
        Role::Serve { listen } => serve(listen),
        Role::Ask {
            target,
            send_mib,
            expect_mib,
        } => ask(*target, *send_mib, *expect_mib),
    }
}

fn serve(listen: &[SocketAddr]) -> Result<()> {
    let mut threads = Vec::new();
    for address in listen {
        let listener = TcpListener::bind(address).with_context(|| format!("bind {address}"))?;
        threads.push(std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    if let Err(error) = answer(stream) {
                        eprintln!("half-close server: {error:#}");
                    }
                });
            }
        }));
    }
    println!("ready");
    for thread in threads {
        // The threads end with the process.
        let _ = thread.join();
    }
    Ok(())
}

/// The request is one line, `MEBIBYTES\n`, then bytes to be counted, then FIN. The answer: one line with the count and the
/// digest of those bytes, then that many mebibytes of the pattern, then FIN.
fn answer(mut stream: TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(SILENCE_LIMIT))?;
    stream.set_write_timeout(Some(SILENCE_LIMIT))?;
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
        ensure!(line.len() < 20, "the request line is too long");
    }
    if line.is_empty() {
        return Ok(()); // a health check
    }
    let mebibytes: u64 = String::from_utf8_lossy(&line)
        .parse()
        .context("the request line")?;
    let (bytes, sha256) = digest_of(&mut stream)?;
    stream.write_all(format!("{bytes} {sha256}\n").as_bytes())?;
    send_pattern(&mut stream, mebibytes)?;
    stream.shutdown(Shutdown::Write)?;
    Ok(())
}

fn send_pattern(stream: &mut TcpStream, mebibytes: u64) -> Result<()> {
    let mut pattern = Pattern::new(mebibytes);
    let mut block = vec![0; 1 << 20];
    for _ in 0..mebibytes {
        pattern.fill(&mut block);
        stream.write_all(&block)?;
    }
    Ok(())
}

/// What a peer that sends `mebibytes` of the pattern should be answered.
fn pattern_digest(mebibytes: u64) -> String {
    use sha2::{Digest, Sha256};
    let mut pattern = Pattern::new(mebibytes);
    let mut block = vec![0; 1 << 20];
    let mut hash = Sha256::new();
    for _ in 0..mebibytes {
        pattern.fill(&mut block);
        hash.update(&block);
    }
    hex(&hash.finalize())
}

fn ask(target: SocketAddr, send_mib: u64, expect_mib: u64) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(10))?;
    stream.set_read_timeout(Some(SILENCE_LIMIT))?;
    stream.set_write_timeout(Some(SILENCE_LIMIT))?;
    stream.write_all(format!("{expect_mib}\n").as_bytes())?;
    send_pattern(&mut stream, send_mib)?;
    stream.shutdown(Shutdown::Write)?;
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
        ensure!(line.len() < 100, "the answer's first line is too long");
    }
    let wanted = format!("{} {}", send_mib * MIB, pattern_digest(send_mib));
    let told = String::from_utf8_lossy(&line).into_owned();
    ensure!(told == wanted, "the server got `{told}`, not `{wanted}`");
    let (bytes, sha256) = digest_of(&mut stream)?;
    ensure!(
        bytes == expect_mib * MIB,
        "read {bytes} bytes of {}",
        expect_mib * MIB
    );
    ensure!(
        sha256 == pattern_digest(expect_mib),
        "the bytes read differ from those sent"
    );
    println!("sent {send_mib} MiB, closed, then read {expect_mib} MiB");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_peers_understand_each_other_without_a_proxy() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let target = listener.local_addr().expect("an address");
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a client");
            answer(stream).expect("an answer");
        });
        ask(target, 1, 2).expect("all bytes");
        server.join().expect("no panic");
    }
}
