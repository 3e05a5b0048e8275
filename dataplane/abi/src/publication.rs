//! Tables through the snapshot: control fills and publishes, an lcore adopts.
//!
//! Both sides work on a private copy and only rows in use travel, so a small configuration costs a
//! few cache lines and the full one about 400 KiB. WHY not read the shared copy in place: a
//! `&Tables` into memory that another process can write is undefined behaviour the moment that
//! process misbehaves, and the lcore translates the tables anyway.

use crate::limits::LCORES_MAX;
use crate::mapping::Projection;
use crate::plain::{words_of, words_of_mut};
use crate::snapshot::{Busy, Publisher, Reader, Snapshot};
use crate::tables::{HEADER_WORDS, SECTIONS, Section, Tables};
use crate::words::Words;

/// Words of one copy of the tables.
pub(crate) const TABLES_WORDS: usize = size_of::<Tables>() / 8;

/// The shared part of the tables' publication.
pub(crate) type TablesSnapshot = Snapshot<TABLES_WORDS, LCORES_MAX>;

/// Control's end: fills and publishes.
#[derive(Debug)]
pub struct TablesPublisher {
    publisher: Publisher<Projection<TablesSnapshot>>,
    staged: Box<Tables>,
}

/// An lcore's end: adopts and acknowledges.
#[derive(Debug)]
pub struct TablesReader {
    reader: Reader<Projection<TablesSnapshot>>,
    adopted: Box<Tables>,
}

impl TablesPublisher {
    pub(crate) fn new(snapshot: Projection<TablesSnapshot>, lcores: usize) -> Self {
        Self {
            publisher: Publisher::attach(snapshot, lcores),
            staged: Tables::boxed(),
        }
    }

    /// Publishes what `fill` writes into empty tables; tells the generation. Refuses, without
    /// calling `fill`, while an lcore has not acknowledged the current generation.
    pub fn publish(&mut self, fill: impl FnOnce(&mut Tables)) -> Result<u64, Busy> {
        self.publisher.check_adopted()?;
        self.staged.clear();
        fill(&mut self.staged);
        let staged = &mut self.staged;
        self.publisher.publish(|generation, copy| {
            staged.generation = generation;
            write_used(staged, copy);
        })
    }

    /// A copy of the tables last published, by this control or the one before it: how a restarted
    /// control finds which identifier each name has. Allocates.
    pub fn current(&self) -> Option<Box<Tables>> {
        self.publisher.read_current(|generation, copy| {
            let mut tables = Tables::boxed();
            read_used(copy, &mut tables);
            tables.generation = generation;
            tables
        })
    }

    /// Whether every lcore has adopted and acknowledged the current generation.
    pub fn check_adopted(&self) -> Result<(), Busy> {
        self.publisher.check_adopted()
    }

    /// The generation last published, by this control or the one before it; 0 = none.
    pub fn generation(&self) -> u64 {
        self.publisher.generation()
    }

    /// The generation an lcore last acknowledged; 0 = none.
    pub fn acknowledged(&self, lcore: usize) -> u64 {
        self.publisher.acknowledged(lcore)
    }
}

impl TablesReader {
    pub(crate) fn new(snapshot: Projection<TablesSnapshot>, lcore: usize) -> Self {
        Self {
            reader: Reader::attach(snapshot, lcore),
            adopted: Tables::boxed(),
        }
    }

    /// The tables of a generation not seen before. Control cannot publish another one until
    /// `acknowledge`.
    pub fn poll(&mut self) -> Option<&Tables> {
        let adopted = &mut self.adopted;
        let generation = self.reader.poll(|copy| read_used(copy, adopted))?;
        self.adopted.generation = generation;
        Some(&self.adopted)
    }

    /// Tells control that the tables last polled are in force here.
    pub fn acknowledge(&mut self) {
        self.reader.acknowledge();
    }

    /// The tables last polled; empty before the first.
    pub fn tables(&self) -> &Tables {
        &self.adopted
    }
}

fn used_words(section: &Section, count: u32) -> core::ops::Range<usize> {
    let rows = (count as usize).min(section.rows_max);
    section.first_word..section.first_word + rows * section.row_words
}

fn write_used(tables: &Tables, copy: &Words<TABLES_WORDS>) {
    let words = words_of(tables);
    copy.write(0, &words[..HEADER_WORDS]);
    for (section, count) in SECTIONS.iter().zip(tables.counts) {
        let used = used_words(section, count);
        copy.write(used.start, &words[used]);
    }
}

fn read_used(copy: &Words<TABLES_WORDS>, tables: &mut Tables) {
    copy.read(0, &mut words_of_mut(tables)[..HEADER_WORDS]);
    let counts = tables.counts;
    let words = words_of_mut(tables);
    for (section, count) in SECTIONS.iter().zip(counts) {
        let used = used_words(section, count);
        copy.read(used.start, &mut words[used]);
    }
}
