//! What runs on the hosts: programs of a few steps that write, wait and read.
//!
//! A program reads all the time, at the pace of its reader, and compares every byte with the one
//! that the other end wrote. It is done when its steps are, and the other's stream has ended.

use millrace_base::{Instant, Nanos};

use crate::host::{Conn, Host, Io};
use crate::pattern::{PIECE_BYTES_MAX, Stream};

/// One thing to do; the next begins when it is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Writes so many bytes.
    Write(u64),
    /// Waits until so many bytes have been read in all.
    AwaitBytes(u64),
    /// Waits until the other's stream has ended.
    AwaitEnd,
    /// Waits.
    Pause(Nanos),
    /// Ends the stream and goes on reading.
    ShutDown,
    /// Closes without waiting for anything: the host delivers what was written.
    Leave,
    /// Resets the connection.
    Abort,
}

/// How fast a program reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pace {
    /// Bytes of one read.
    pub(crate) bytes: usize,
    /// Between two of them; zero is as soon as there is something.
    pub(crate) every: Nanos,
}

impl Pace {
    /// Everything at once.
    pub(crate) const GREEDY: Self = Self {
        bytes: PIECE_BYTES_MAX,
        every: Nanos::ZERO,
    };
}

/// A program's text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Text {
    pub(crate) steps: Vec<Step>,
    pub(crate) pace: Pace,
}

impl Text {
    /// Bytes it writes in all.
    pub(crate) fn bytes(&self) -> u64 {
        let mut bytes = 0;
        for step in &self.steps {
            if let Step::Write(more) = step {
                bytes += more;
            }
        }
        bytes
    }

    /// Whether it ends its stream so that all of it arrives.
    pub(crate) fn ends_well(&self) -> bool {
        !self.steps.contains(&Step::Abort)
    }

    /// The time it spends waiting for itself: pauses, and slow reads of so many bytes.
    pub(crate) fn idles(&self, to_read: u64) -> Nanos {
        let reads = to_read / self.pace.bytes as u64 + 2;
        let mut nanos = reads * self.pace.every.as_nanos();
        for step in &self.steps {
            if let Step::Pause(time) = step {
                nanos += time.as_nanos();
            }
        }
        Nanos::new(nanos)
    }
}

/// A program that runs.
#[derive(Debug)]
pub(crate) struct Program {
    text: Text,
    conn: Option<Conn>,
    /// What it writes and what it reads.
    writes: Stream,
    reads: Stream,
    step: usize,
    /// Bytes that the step has written.
    done: u64,
    pause_until: Option<Instant>,
    next_read: Instant,
    pub(crate) written: u64,
    pub(crate) read: u64,
    pub(crate) saw_end: bool,
    /// What it reads is made up by a liar.
    pub(crate) believes_anything: bool,
    /// Why the connection is broken.
    pub(crate) broken: Option<String>,
    /// When it was done.
    pub(crate) finished_at: Option<Instant>,
}

impl Program {
    /// Runs `text` over `conn` from now on.
    pub(crate) fn new(text: &Text, conn: Conn, flow: usize, is_client: bool) -> Self {
        Self {
            text: text.clone(),
            conn: Some(conn),
            writes: Stream::new(flow, is_client),
            reads: Stream::new(flow, !is_client),
            step: 0,
            done: 0,
            pause_until: None,
            next_read: Instant::ZERO,
            written: 0,
            read: 0,
            saw_end: false,
            believes_anything: false,
            broken: None,
            finished_at: None,
        }
    }

    /// Its connection, while it has one.
    pub(crate) const fn conn(&self) -> Option<Conn> {
        self.conn
    }

    /// When it wants to be asked again although nothing has come.
    pub(crate) fn next_deadline(&self) -> Instant {
        if self.conn.is_none() {
            return Instant::NEVER;
        }
        let read = if self.text.pace.every == Nanos::ZERO || self.saw_end {
            Instant::NEVER
        } else {
            self.next_read
        };
        read.min(self.pause_until.unwrap_or(Instant::NEVER))
    }

    /// Goes on as far as it can. Fails when a byte is not the one that was written.
    pub(crate) fn run(&mut self, now: Instant, host: &mut dyn Host) -> Result<(), String> {
        let Some(conn) = self.conn else {
            return Ok(());
        };
        loop {
            let mut moved = self.read(now, conn, host)?;
            while self.broken.is_none() && self.take_step(now, conn, host) {
                moved = true;
            }
            if self.conn.is_none() || self.broken.is_some() || !moved {
                break;
            }
        }
        let is_done = self.step == self.text.steps.len() && self.saw_end;
        if is_done || self.broken.is_some() {
            self.let_go(now, host, false);
        }
        Ok(())
    }

    /// Gives the connection up, whatever it was doing.
    pub(crate) fn give_up(&mut self, now: Instant, host: &mut dyn Host) {
        self.let_go(now, host, true);
    }

    fn let_go(&mut self, now: Instant, host: &mut dyn Host, abort: bool) {
        if let Some(conn) = self.conn.take() {
            host.close(now, conn, abort);
            self.finished_at = Some(now);
        }
    }

    /// Reads what there is; whether there was something.
    fn read(&mut self, now: Instant, conn: Conn, host: &mut dyn Host) -> Result<bool, String> {
        let mut moved = false;
        while !self.saw_end && self.next_read <= now {
            let mut bytes = Vec::new();
            match host.read(now, conn, self.text.pace.bytes, &mut bytes) {
                Io::Moved(_) => {
                    if !self.believes_anything && !self.reads.holds(self.read, &bytes) {
                        return Err(self.reads.differs(self.read, &bytes));
                    }
                    self.read += bytes.len() as u64;
                    self.next_read = now.after(self.text.pace.every);
                }
                Io::Later => {
                    self.next_read = now.after(self.text.pace.every);
                    break;
                }
                Io::End => self.saw_end = true,
                Io::Broken(why) => {
                    self.broken = Some(why);
                    break;
                }
            }
            moved = true;
        }
        Ok(moved)
    }

    /// Takes a step or a part of one; whether it came further.
    fn take_step(&mut self, now: Instant, conn: Conn, host: &mut dyn Host) -> bool {
        let Some(step) = self.text.steps.get(self.step) else {
            return false;
        };
        let is_done = match *step {
            Step::Write(bytes) => {
                let len = (bytes - self.done).min(PIECE_BYTES_MAX as u64) as usize;
                match host.write(now, conn, self.writes.piece(self.written, len)) {
                    Io::Moved(count) => {
                        self.written += count as u64;
                        self.done += count as u64;
                    }
                    Io::Broken(why) => {
                        self.broken = Some(why);
                        return false;
                    }
                    Io::Later | Io::End => return false,
                }
                if self.done < bytes {
                    return true;
                }
                self.done = 0;
                true
            }
            Step::AwaitBytes(bytes) => self.read >= bytes,
            Step::AwaitEnd => self.saw_end,
            Step::Pause(time) => {
                let until = *self.pause_until.get_or_insert(now.after(time));
                let is_over = until <= now;
                if is_over {
                    self.pause_until = None;
                }
                is_over
            }
            Step::ShutDown => {
                host.shut_down(now, conn);
                true
            }
            Step::Leave => {
                self.let_go(now, host, false);
                true
            }
            Step::Abort => {
                self.let_go(now, host, true);
                true
            }
        };
        self.step += usize::from(is_done);
        is_done && self.conn.is_some()
    }
}
