//! Desired against actual: the one function that decides what must be done so that the dataplane is
//! as it should be.
//!
//! Pure: it compares and lists steps; `control` takes them. Running it again after the steps were
//! taken gives none.

use std::collections::HashSet;

use millrace_abi::Tables;
use millrace_base::Address;

use crate::neighbor::{Key, Links};
use crate::publish::Desired;

/// What the dataplane has, as far as this control knows. Empty after attaching: then everything is
/// done once.
#[derive(Default)]
pub(crate) struct Actual {
    /// The tables published last.
    pub(crate) tables: Option<Box<Tables>>,
    /// Who we said we are.
    pub(crate) links: Links,
    /// Neighbours pinned.
    pub(crate) pinned: HashSet<Key>,
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Publish the desired tables.
    Publish,
    /// Use the desired links from now on and forget neighbours that are no longer on one.
    Relink,
    /// Tell the links about these addresses of ours.
    Announce(Vec<Address>),
    /// Keep the desired neighbours resolved.
    Pin,
}

/// The steps from `actual` to `desired`, in the order they must be taken: who we are comes before
/// what we ask.
pub(crate) fn reconcile(desired: &Desired, actual: &Actual) -> Vec<Step> {
    let mut steps = Vec::new();
    if !same_links(&desired.links, &actual.links) {
        steps.push(Step::Relink);
    }
    let published = actual.tables.as_ref();
    if !published.is_some_and(|tables| same_tables(&desired.tables, tables)) {
        steps.push(Step::Publish);
    }
    let known: HashSet<Address> = own(&actual.links).collect();
    let new: Vec<Address> = own(&desired.links)
        .filter(|address| !known.contains(address))
        .collect();
    if !new.is_empty() {
        steps.push(Step::Announce(new));
    }
    if desired.pinned != actual.pinned {
        steps.push(Step::Pin);
    }
    steps
}

fn own(links: &Links) -> impl Iterator<Item = Address> {
    links.0.iter().flat_map(|link| link.answers.iter().copied())
}

fn same_links(a: &Links, b: &Links) -> bool {
    a.0.len() == b.0.len()
        && a.0.iter().zip(&b.0).all(|(a, b)| {
            (a.port, a.mac) == (b.port, b.mac)
                && a.networks == b.networks
                && a.attached == b.attached
                && a.answers == b.answers
        })
}

fn same_tables(a: &Tables, b: &Tables) -> bool {
    a.interfaces() == b.interfaces()
        && a.addresses() == b.addresses()
        && a.routes() == b.routes()
        && a.listeners() == b.listeners()
        && a.pools() == b.pools()
        && a.backends() == b.backends()
        && a.snat() == b.snat()
}

#[cfg(test)]
mod tests;
