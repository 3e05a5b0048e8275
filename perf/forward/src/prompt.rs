//! The commands of `--interactive`: a small part of testpmd's, with its words.

use core::str::FromStr;

use millrace_forward::Mode;

/// What can be typed.
pub(crate) const HELP: &str = "\
start                      forward
start tx_first [BURSTS]    send bursts from every port, then forward
stop                       stop forwarding and print what was forwarded
set fwd MODE               choose what the next start does
show port stats all        what the devices counted
show port info all         what the devices can do and do
show fwd stats all         what was forwarded
show config fwd            which lcore forwards what where
clear port stats all       begin the devices' counters at zero
clear fwd stats all        begin the forwarding counters at zero
help                       this
quit                       stop and leave";

/// One line of an operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Command {
    /// Forward, after this many bursts from every port.
    Start {
        tx_first: u32,
    },
    Stop,
    SetMode(Mode),
    ShowPortStats,
    ShowPortInfo,
    ShowForwardStats,
    ShowStreams,
    ClearPortStats,
    ClearForwardStats,
    Help,
    Quit,
    /// An empty line.
    Nothing,
}

impl FromStr for Command {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] => Ok(Self::Nothing),
            ["start"] => Ok(Self::Start { tx_first: 0 }),
            ["start", "tx_first"] => Ok(Self::Start { tx_first: 1 }),
            ["start", "tx_first", bursts] => bursts
                .parse()
                .map(|tx_first| Self::Start { tx_first })
                .map_err(|_| format!("{bursts:?} is no number of bursts")),
            ["stop"] => Ok(Self::Stop),
            ["set", "fwd", mode] => mode
                .parse()
                .map(Self::SetMode)
                .map_err(|error: <Mode as FromStr>::Err| error.to_string()),
            ["show", "port", "stats", "all"] => Ok(Self::ShowPortStats),
            ["show", "port", "info", "all"] => Ok(Self::ShowPortInfo),
            ["show", "fwd", "stats", "all"] => Ok(Self::ShowForwardStats),
            ["show", "config", "fwd"] => Ok(Self::ShowStreams),
            ["clear", "port", "stats", "all"] => Ok(Self::ClearPortStats),
            ["clear", "fwd", "stats", "all"] => Ok(Self::ClearForwardStats),
            ["help"] => Ok(Self::Help),
            ["quit" | "exit"] => Ok(Self::Quit),
            _ => Err(format!("no such command: {line:?}; try help")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_help_is_a_command() {
        for line in HELP.lines() {
            let typed: String = line.chars().take(27).collect();
            let typed = typed.replace("[BURSTS]", "3").replace("MODE", "macswap");
            assert!(typed.parse::<Command>().is_ok(), "{typed}");
        }
    }

    #[test]
    fn numbers_and_modes_are_checked() {
        assert_eq!(
            "start tx_first 9".parse(),
            Ok(Command::Start { tx_first: 9 })
        );
        assert_eq!(" set  fwd io ".parse(), Ok(Command::SetMode(Mode::Io)));
        assert!("set fwd iio".parse::<Command>().is_err());
        assert!("show port stats".parse::<Command>().is_err());
        assert_eq!("".parse(), Ok(Command::Nothing));
    }
}
