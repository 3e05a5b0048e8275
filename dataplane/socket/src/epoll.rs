//! `epoll`: who watches what, level and edge triggers, one shot, exclusive wake-ups, sets in sets.
//!
//! As in Linux (`fs/eventpoll.c`) a wake-up puts the watched file on the ready list of the set, and
//! `epoll_wait` asks each file on the list anew what it is ready for: a level-triggered one goes
//! back to the end of the list as long as it is, an edge-triggered one waits for the next wake-up.
//!
//! Sleepers in `epoll_wait` are woken one for each event, oldest first; one that finds nothing, as
//! somebody else has taken it, sleeps on.

use std::collections::{BTreeMap, VecDeque};

use millrace_base::Instant;

use crate::call::{EpollEvent, Reply};
use crate::errno::Errno;
use crate::file::{EpollId, FileId, Kind, SocketId};
use crate::linux::{
    EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLERR, EPOLLET, EPOLLEXCLUSIVE,
    EPOLLHUP, EPOLLIN, EPOLLONESHOT, EPOLLOUT, EPOLLRDNORM, EPOLLWAKEUP, O_RDWR,
};
use crate::sockets::Sockets;

/// How to be told, as opposed to what of.
const HOW: u32 = EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE;
/// What may go with `EPOLLEXCLUSIVE`.
const EXCLUSIVE_ALLOWED: u32 =
    EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;
/// Sets in sets in sets (Linux: `EP_MAX_NESTS`).
const NESTS_MAX: u32 = 4;
/// Ways that lead from one file through so many sets to a set that nobody watches (Linux:
/// `path_limits`). Beyond it a wake-up would not end soon. The first are not limited.
const PATHS_MAX: [u32; NESTS_MAX as usize] = [500, 100, 50, 10];
/// Events one `epoll_wait` may ask for (Linux: `EP_MAX_EVENTS`).
const EVENTS_MAX: i32 = i32::MAX / 12;

/// A watched file: Linux tells descriptors of one file apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Key {
    file: FileId,
    fd: i32,
}

/// Says in the watched object who watches it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Watch {
    epoll: EpollId,
    key: Key,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    kind: Kind,
    /// What of, and how. Without any "what of" after a one-shot event.
    events: u32,
    data: u64,
    queued: bool,
}

/// One epoll set.
#[derive(Debug, Default)]
pub(crate) struct Epoll {
    items: BTreeMap<Key, Item>,
    ready: VecDeque<Key>,
    watches: Vec<Watch>,
    /// Of those who sleep in `epoll_wait`, how many were woken since they last looked.
    woken: usize,
}

impl Epoll {
    fn enqueue(&mut self, key: Key) {
        if let Some(item) = self.items.get_mut(&key)
            && !item.queued
        {
            item.queued = true;
            self.ready.push_back(key);
        }
    }
}

impl Sockets {
    /// `epoll_create`: `EINVAL` for a size that is not positive.
    pub fn epoll_create(&mut self, size: i32) -> Result<i32, Errno> {
        if size <= 0 {
            return Err(Errno::EINVAL);
        }
        self.epoll_create1(0)
    }

    /// `epoll_create1`.
    pub fn epoll_create1(&mut self, flags: i32) -> Result<i32, Errno> {
        if flags & !EPOLL_CLOEXEC != 0 {
            return Err(Errno::EINVAL);
        }
        self.files.check_room(1)?;
        let id = EpollId(self.next_number());
        self.epolls.insert(id, Epoll::default());
        let cloexec = flags & EPOLL_CLOEXEC != 0;
        self.files.open(Kind::Epoll(id), O_RDWR, cloexec)
    }

    /// `epoll_ctl`. `event` is ignored by `EPOLL_CTL_DEL` and must be there otherwise (`EFAULT`).
    pub fn epoll_ctl(
        &mut self,
        now: Instant,
        epoll_fd: i32,
        operation: i32,
        fd: i32,
        event: Option<EpollEvent>,
    ) -> Result<(), Errno> {
        self.step_to(now);
        let event = match (operation, event) {
            (EPOLL_CTL_DEL, _) => EpollEvent { events: 0, data: 0 },
            (_, Some(event)) => event,
            (_, None) => return Err(Errno::EFAULT),
        };
        let (epoll_file, epoll) = self.files.find(epoll_fd)?;
        let (file, watched) = self.files.find(fd)?;
        let Kind::Epoll(epoll) = epoll.kind else {
            return Err(Errno::EINVAL);
        };
        if epoll_file == file {
            return Err(Errno::EINVAL);
        }
        if event.events & EPOLLEXCLUSIVE != 0 {
            let nested = matches!(watched.kind, Kind::Epoll(_));
            let refused = nested || event.events & !EXCLUSIVE_ALLOWED != 0;
            if operation == EPOLL_CTL_MOD || (operation == EPOLL_CTL_ADD && refused) {
                return Err(Errno::EINVAL);
            }
        }
        if operation == EPOLL_CTL_ADD
            && let Kind::Epoll(inner) = watched.kind
            && (self.reaches(inner, epoll, 0) || self.depth(inner) + self.height(epoll) > NESTS_MAX)
        {
            return Err(Errno::ELOOP);
        }
        let key = Key { file, fd };
        let known = self
            .epolls
            .get(&epoll)
            .and_then(|epoll| epoll.items.get(&key))
            .copied();
        match (operation, known) {
            (EPOLL_CTL_ADD, Some(_)) => Err(Errno::EEXIST),
            (EPOLL_CTL_ADD, None) => {
                // behaviour: EPL-16
                if self.epoll_watches() >= self.sysctls.user_watches_max() as usize {
                    return Err(Errno::ENOSPC);
                }
                self.watch(watched.kind, Watch { epoll, key });
                let nested = matches!(watched.kind, Kind::Epoll(_));
                let checked = nested || self.is_nested(epoll);
                if checked && !self.paths_are_few(watched.kind) {
                    self.stop_watching(watched.kind, Watch { epoll, key });
                    return Err(Errno::EINVAL);
                }
                self.put_item(epoll, key, watched.kind, event);
                Ok(())
            }
            (EPOLL_CTL_DEL | EPOLL_CTL_MOD, None) => Err(Errno::ENOENT),
            (EPOLL_CTL_DEL, Some(_)) => {
                self.unwatch(epoll, key);
                Ok(())
            }
            (EPOLL_CTL_MOD, Some(item)) if item.events & EPOLLEXCLUSIVE == 0 => {
                self.put_item(epoll, key, watched.kind, event);
                Ok(())
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// One attempt at `epoll_wait`.
    // Linux: `ep_send_events`.
    pub(crate) fn try_epoll_wait(
        &mut self,
        epoll: EpollId,
        events_max: i32,
        last: bool,
    ) -> Option<Result<Reply, Errno>> {
        if events_max <= 0 || events_max > EVENTS_MAX {
            return Some(Err(Errno::EINVAL));
        }
        let mut events = Vec::new();
        let looked_at = self.epolls.get(&epoll).map_or(0, |epoll| epoll.ready.len());
        for _ in 0..looked_at {
            if events.len() >= events_max as usize {
                break;
            }
            let Some((key, item)) = self.next_ready(epoll) else {
                break;
            };
            let found = self.ready_of(item.kind) & (item.events | EPOLLERR | EPOLLHUP);
            if found == 0 || item.events & !HOW == 0 {
                continue;
            }
            events.push(EpollEvent {
                events: found,
                data: item.data,
            });
            let Some(set) = self.epolls.get_mut(&epoll) else {
                break;
            };
            if item.events & EPOLLONESHOT != 0 {
                if let Some(item) = set.items.get_mut(&key) {
                    item.events &= HOW;
                }
            } else if item.events & EPOLLET == 0 {
                set.enqueue(key);
            }
        }
        (!events.is_empty() || last).then_some(Ok(Reply::Events(events)))
    }

    /// A socket has news: `events`, or anything when 0.
    pub(crate) fn wake(&mut self, socket: SocketId, events: u32) {
        let watches = self.sockets.get(&socket).map(|s| s.watches.clone());
        self.wake_all(watches.unwrap_or_default(), events);
    }

    /// Wakes the sets of a wait queue: those that share the queue with others, the latest first;
    /// then of the exclusive ones those up to the first that has taken it. News that may mean
    /// anything (0) wakes them all (behaviour: EPL-43).
    // Linux: `ep_poll_callback`, called by `__wake_up_common`.
    pub(crate) fn wake_all(&mut self, watches: Vec<Watch>, events: u32) {
        let is_exclusive = |watch: &Watch| {
            let item = self.item(*watch);
            item.is_some_and(|item| item.events & EPOLLEXCLUSIVE != 0)
        };
        let (exclusive, shared): (Vec<Watch>, Vec<Watch>) =
            watches.into_iter().partition(is_exclusive);
        for watch in shared.into_iter().rev() {
            self.wake_one(watch, events);
        }
        for watch in exclusive {
            if self.wake_one(watch, events) && events != 0 {
                break;
            }
        }
    }

    /// Wakes one set; whether a sleeper of it has taken an event that its watch asks for.
    fn wake_one(&mut self, watch: Watch, events: u32) -> bool {
        let Some(item) = self.item(watch) else {
            return false;
        };
        let wanted = events == 0 || events & item.events != 0;
        // A one-shot item that has fired is switched off.
        let off = item.events & !HOW == 0;
        // behaviour: EPL-36
        if !wanted || off {
            return false;
        }
        let sleepers = self.sleepers(watch.epoll);
        let Some(set) = self.epolls.get_mut(&watch.epoll) else {
            return false;
        };
        set.enqueue(watch.key);
        let woken = set.woken < sleepers;
        set.woken += usize::from(woken);
        let outer = set.watches.clone();
        self.wake_all(outer, EPOLLIN | EPOLLRDNORM);
        let both = events & (EPOLLIN | EPOLLOUT);
        woken && (both == 0 || (both.count_ones() == 1 && item.events & both != 0))
    }

    /// Those who were woken are about to look: whoever sleeps again can be woken again.
    pub(crate) fn forget_woken(&mut self) {
        for set in self.epolls.values_mut() {
            set.woken = 0;
        }
    }

    /// Files that are watched, all sets together (`epoll_watches` of the user).
    pub fn epoll_watches(&self) -> usize {
        self.epolls.values().map(|set| set.items.len()).sum()
    }

    /// What `/proc/self/fdinfo` shows of an epoll set, a line for each watched file: descriptor,
    /// events and the program's mark.
    // behaviour: EPL-6
    pub fn epoll_fdinfo(&self, fd: i32) -> Result<String, Errno> {
        let (_, file) = self.files.find(fd)?;
        let Kind::Epoll(epoll) = file.kind else {
            return Err(Errno::EINVAL);
        };
        let mut text = format!("pos:\t0\nflags:\t0{:o}\n", file.flags);
        let items = self.epolls.get(&epoll).map(|set| set.items.iter());
        for (key, item) in items.into_iter().flatten() {
            let (fd, events, data) = (key.fd, item.events, item.data);
            text += &format!("tfd: {fd:8} events: {events:8x} data: {data:16x}\n");
        }
        Ok(text)
    }

    /// A file is gone: no set watches it any more.
    pub(crate) fn forget_watches(&mut self, file: FileId) {
        for set in self.epolls.values_mut() {
            set.items.retain(|key, _| key.file != file);
            set.ready.retain(|key| key.file != file);
        }
        let keep = |watch: &Watch| watch.key.file != file;
        for socket in self.sockets.values_mut() {
            socket.watches.retain(keep);
        }
        for set in self.epolls.values_mut() {
            set.watches.retain(keep);
        }
        for pipe in self.pipes.values_mut() {
            pipe.watches.retain(keep);
        }
    }

    /// The last descriptor of a set is closed.
    pub(crate) fn close_epoll(&mut self, epoll: EpollId) {
        self.epolls.remove(&epoll);
        let keep = |watch: &Watch| watch.epoll != epoll;
        for socket in self.sockets.values_mut() {
            socket.watches.retain(keep);
        }
        for set in self.epolls.values_mut() {
            set.watches.retain(keep);
        }
        for pipe in self.pipes.values_mut() {
            pipe.watches.retain(keep);
        }
    }

    /// A set is readable when anything in it is ready (`ep_eventpoll_poll`).
    pub(crate) fn epoll_ready(&mut self, epoll: EpollId) -> u32 {
        let Some(set) = self.epolls.get(&epoll) else {
            return 0;
        };
        let candidates: Vec<Item> = set
            .ready
            .iter()
            .filter_map(|key| set.items.get(key))
            .copied()
            .collect();
        let mut items = candidates.into_iter();
        let any = items.any(|item| {
            let wanted = item.events | EPOLLERR | EPOLLHUP;
            item.events & !HOW != 0 && self.ready_of(item.kind) & wanted != 0
        });
        if any { EPOLLIN | EPOLLRDNORM } else { 0 }
    }

    fn put_item(&mut self, epoll: EpollId, key: Key, kind: Kind, event: EpollEvent) {
        let events = event.events | EPOLLERR | EPOLLHUP;
        let ready = self.ready_of(kind) & events != 0;
        let Some(set) = self.epolls.get_mut(&epoll) else {
            return;
        };
        let queued = set.items.get(&key).is_some_and(|item| item.queued);
        set.items.insert(
            key,
            Item {
                kind,
                events,
                data: event.data,
                queued,
            },
        );
        if ready {
            set.enqueue(key);
            let outer = set.watches.clone();
            self.wake_all(outer, EPOLLIN | EPOLLRDNORM);
        }
        self.settle();
    }

    fn next_ready(&mut self, epoll: EpollId) -> Option<(Key, Item)> {
        let set = self.epolls.get_mut(&epoll)?;
        let key = set.ready.pop_front()?;
        let item = set.items.get_mut(&key)?;
        item.queued = false;
        Some((key, *item))
    }

    fn item(&self, watch: Watch) -> Option<Item> {
        let set = self.epolls.get(&watch.epoll)?;
        set.items.get(&watch.key).copied()
    }

    fn watch(&mut self, kind: Kind, watch: Watch) {
        if let Some(watches) = self.watches_of(kind) {
            watches.push(watch);
        }
    }

    fn unwatch(&mut self, epoll: EpollId, key: Key) {
        let Some(set) = self.epolls.get_mut(&epoll) else {
            return;
        };
        set.ready.retain(|queued| *queued != key);
        if let Some(item) = set.items.remove(&key) {
            self.stop_watching(item.kind, Watch { epoll, key });
        }
    }

    fn stop_watching(&mut self, kind: Kind, gone: Watch) {
        if let Some(watches) = self.watches_of(kind) {
            watches.retain(|watch| *watch != gone);
        }
    }

    fn watches_of(&mut self, kind: Kind) -> Option<&mut Vec<Watch>> {
        match kind {
            Kind::Socket(id) => self.sockets.get_mut(&id).map(|s| &mut s.watches),
            Kind::Epoll(id) => self.epolls.get_mut(&id).map(|e| &mut e.watches),
            Kind::PipeReader(id) | Kind::PipeWriter(id) => {
                self.pipes.get_mut(&id).map(|p| &mut p.watches)
            }
        }
    }

    /// Calls of `epoll_wait` that sleep on a set.
    fn sleepers(&self, epoll: EpollId) -> usize {
        self.calls.waiting_on(|file| {
            self.files
                .get(file)
                .is_some_and(|file| file.kind == Kind::Epoll(epoll))
        })
    }

    fn is_nested(&self, epoll: EpollId) -> bool {
        let set = self.epolls.get(&epoll);
        set.is_some_and(|set| !set.watches.is_empty())
    }

    /// Whether no file below has too many sets above it (`reverse_path_check`).
    // behaviour: EPL-14
    fn paths_are_few(&mut self, added: Kind) -> bool {
        let mut files = vec![added];
        let mut bottoms = Vec::new();
        while let Some(kind) = files.pop() {
            let Kind::Epoll(inner) = kind else {
                bottoms.push(kind);
                continue;
            };
            let items = self.epolls.get(&inner).map(|set| set.items.values());
            files.extend(items.into_iter().flatten().map(|item| item.kind));
        }
        bottoms.into_iter().all(|kind| {
            let watches = self.watches_of(kind).map_or(Vec::new(), |w| w.clone());
            let mut counts = [0; PATHS_MAX.len()];
            self.count_paths(&watches, 0, &mut counts)
        })
    }

    /// Counts the ways up by their length; `false` once there are too many of one.
    fn count_paths(
        &self,
        watches: &[Watch],
        depth: usize,
        counts: &mut [u32; PATHS_MAX.len()],
    ) -> bool {
        if depth > PATHS_MAX.len() {
            return false;
        }
        watches.iter().all(|watch| {
            let above = self.epolls.get(&watch.epoll).map(|set| &set.watches[..]);
            let above = above.unwrap_or_default();
            if !above.is_empty() {
                return self.count_paths(above, depth + 1, counts);
            }
            let Some(place) = depth.checked_sub(1) else {
                return true;
            };
            let (Some(count), Some(most)) = (counts.get_mut(place), PATHS_MAX.get(place)) else {
                return false;
            };
            *count += 1;
            *count <= *most
        })
    }

    /// Whether `from` watches `to`, directly or through other sets.
    fn reaches(&self, from: EpollId, to: EpollId, steps: u32) -> bool {
        if from == to || steps > NESTS_MAX {
            return true;
        }
        let inner = self.inner_sets(from);
        inner
            .into_iter()
            .any(|inner| self.reaches(inner, to, steps + 1))
    }

    /// Sets below a set, at the deepest.
    fn depth(&self, epoll: EpollId) -> u32 {
        let inner = self.inner_sets(epoll).into_iter();
        inner.map(|inner| self.depth(inner) + 1).max().unwrap_or(0)
    }

    /// Sets above a set, at the highest, and the set itself.
    fn height(&self, epoll: EpollId) -> u32 {
        let outer = self.epolls.get(&epoll).map(|set| set.watches.clone());
        let outer = outer.unwrap_or_default().into_iter();
        1 + outer
            .map(|watch| self.height(watch.epoll))
            .max()
            .unwrap_or(0)
    }

    fn inner_sets(&self, epoll: EpollId) -> Vec<EpollId> {
        let items = self.epolls.get(&epoll).map(|set| set.items.values());
        let kinds = items.into_iter().flatten().map(|item| item.kind);
        kinds
            .filter_map(|kind| match kind {
                Kind::Epoll(inner) => Some(inner),
                Kind::Socket(_) | Kind::PipeReader(_) | Kind::PipeWriter(_) => None,
            })
            .collect()
    }
}
