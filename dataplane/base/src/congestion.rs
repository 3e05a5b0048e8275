//! The names of congestion control: what an operator writes, what a socket option carries, and the
//! number by which control tells the dataplane.
//!
//! Only names. The algorithms are rooms of `stack`; control, which must not name `stack`, checks and
//! documents the key by the same list.

/// Which algorithm decides how much may be in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum CongestionControl {
    /// RFC 5681.
    Reno = 1,
    /// RFC 9438.
    #[default]
    Cubic = 2,
    /// draft-ietf-ccwg-bbr.
    Bbr = 3,
    /// RFC 8257.
    Dctcp = 4,
}

/// How many there are.
const COUNT: usize = CongestionControl::ALL.len();

impl CongestionControl {
    /// Every algorithm, the reference first (Linux: `tcp_available_congestion_control`).
    pub const ALL: [Self; 4] = [Self::Reno, Self::Cubic, Self::Bbr, Self::Dctcp];

    /// The names of all, in the same order.
    pub const NAMES: [&'static str; COUNT] = {
        let mut names = [""; COUNT];
        let mut rest: &[Self] = &Self::ALL;
        let mut slots: &mut [&'static str] = &mut names;
        while let (Some((control, others)), Some((slot, free))) =
            (rest.split_first(), slots.split_first_mut())
        {
            *slot = control.name();
            (rest, slots) = (others, free);
        }
        names
    };

    /// The name an operator knows; fewer than 16 bytes (Linux: `TCP_CA_NAME_MAX`).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reno => "reno",
            Self::Cubic => "cubic",
            Self::Bbr => "bbr",
            Self::Dctcp => "dctcp",
        }
    }

    /// Whether it goes by marks: then a connection asks for ECN, and agrees to it, whatever `tcp_ecn`
    /// says (Linux: `TCP_CONG_NEEDS_ECN`).
    pub const fn needs_ecn(self) -> bool {
        match self {
            Self::Reno | Self::Cubic | Self::Bbr => false,
            Self::Dctcp => true,
        }
    }

    /// The algorithm of a name, if there is one.
    pub fn of_name(name: &[u8]) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|control| control.name().as_bytes() == name)
    }

    /// The number by which control and the dataplane speak of it; never 0, and never another
    /// algorithm's in a later version.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The algorithm of a number, if there is one.
    pub fn of_number(number: u8) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|control| control.number() == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Whoever adds an algorithm adds it to `ALL`, or nobody can choose it.
    #[test]
    fn every_algorithm_is_found_by_its_name_and_by_its_number_and_by_no_other() {
        for (control, name) in CongestionControl::ALL
            .into_iter()
            .zip(CongestionControl::NAMES)
        {
            assert_eq!(control.name(), name);
            assert!((1..16).contains(&name.len()), "{name}");
            assert_eq!(CongestionControl::of_name(name.as_bytes()), Some(control));
            assert_eq!(
                CongestionControl::of_number(control.number()),
                Some(control)
            );
        }
        let known = (0..=u8::MAX).filter_map(CongestionControl::of_number);
        assert_eq!(known.count(), CongestionControl::ALL.len());
        assert_eq!(CongestionControl::of_number(0), None);
        assert_eq!(CongestionControl::of_name(b"Cubic"), None);
        assert_eq!(CongestionControl::of_name(b""), None);
    }

    // They lie in the shared region: what they mean cannot change.
    #[test]
    fn the_numbers_are_those_that_were_given_once() {
        let numbers = CongestionControl::ALL.map(|control| (control.name(), control.number()));
        assert!(numbers.contains(&("reno", 1)));
        assert!(numbers.contains(&("cubic", 2)));
        assert!(numbers.contains(&("bbr", 3)));
        assert!(numbers.contains(&("dctcp", 4)));
    }
}
