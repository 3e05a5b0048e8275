//! The option lines of a script, understood.

use std::net::IpAddr;
use std::time::Duration;

use crate::ast::OptionLine;
use crate::fault::Fault;
use crate::kernel::Network;
use crate::variant::Variant;

/// How a script wants to be run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    pub(crate) variant: Variant,
    pub(crate) network: Network,
    /// Where servers listen.
    pub(crate) bind_port: u16,
    /// Where clients connect to.
    pub(crate) connect_port: u16,
    /// How far a time may be off, at least, in microseconds.
    pub(crate) tolerance_usecs: i64,
    /// How far a time may be off, by the interval since the event before, in thousandths.
    pub(crate) tolerance_permille: i64,
    /// Every expected packet is one packet on the wire.
    pub(crate) is_strict: bool,
    /// Microseconds of a timestamp's tick; `None` leaves timestamps unchecked.
    pub(crate) timestamp_tick_usecs: Option<i64>,
    /// An echoed timestamp that was never sent counts from the first that was.
    pub(crate) echoes_are_scaled: bool,
    /// The size of the segments in an inbound packet that is larger than one; 0 for not said.
    pub(crate) segment_bytes: u16,
}

impl Settings {
    pub(crate) fn new(lines: &[OptionLine], variant: Variant) -> Result<Self, Fault> {
        let mut settings = Self {
            variant,
            network: Network {
                local: variant.local(),
                prefix_bits: variant.prefix_bits(),
                remote: variant.remote(),
                mtu: variant.mtu(),
            },
            bind_port: 8_080,
            connect_port: 8_080,
            tolerance_usecs: 4_000,
            tolerance_permille: 125,
            is_strict: false,
            timestamp_tick_usecs: None,
            echoes_are_scaled: false,
            segment_bytes: 0,
        };
        for line in lines {
            settings.take(line)?;
        }
        Ok(settings)
    }

    fn take(&mut self, line: &OptionLine) -> Result<(), Fault> {
        match line.name.as_str() {
            "tolerance_usecs" => self.tolerance_usecs = i64::from(number::<u32>(line)?),
            "tolerance_percent" => self.tolerance_permille = permille(line)?,
            "local_ip" => take_address(line, &mut self.network.local)?,
            "remote_ip" => take_address(line, &mut self.network.remote)?,
            "mtu" => self.network.mtu = number(line)?,
            "mss" => self.segment_bytes = number(line)?,
            "bind_port" => self.bind_port = number(line)?,
            "connect_port" => self.connect_port = number(line)?,
            "tcp_ts_tick_usecs" => {
                let tick = i64::from(number::<u32>(line)?);
                self.timestamp_tick_usecs = Some(tick).filter(|tick| *tick > 0);
            }
            "tcp_ts_ecr_scaled" => self.echoes_are_scaled = true,
            "strict_segments" => self.is_strict = true,
            "ip_version" => {
                let wanted: Variant = value(line)?.parse().map_err(|m| Fault::new(line.at, m))?;
                if wanted != self.variant {
                    let message =
                        format!("this script is for {wanted}, the run is {}", self.variant);
                    return Err(Fault::new(line.at, message));
                }
            }
            // Words were replaced while parsing. The link needs no gateway: everything that is
            // not local is behind it.
            "define" | "gateway_ip" | "netmask_ip" => {}
            other => return Err(Fault::new(line.at, format!("no option `--{other}`"))),
        }
        Ok(())
    }

    /// How far an event may be off that lies `interval` microseconds after the one before.
    pub(crate) fn tolerance(&self, interval: i64) -> i64 {
        self.tolerance_usecs
            .max(interval.saturating_mul(self.tolerance_permille) / 1_000)
    }
}

/// An address counts where its family is the variant's: a script that names IPv4 addresses runs
/// over IPv6 with the default ones.
fn take_address(line: &OptionLine, address: &mut IpAddr) -> Result<(), Fault> {
    let text = value(line)?;
    let text = text.split('/').next().unwrap_or(text);
    let said: IpAddr = text
        .parse()
        .map_err(|_| Fault::new(line.at, format!("`{text}` is no IP address")))?;
    if said.is_ipv4() == address.is_ipv4() {
        *address = said;
    }
    Ok(())
}

fn value(line: &OptionLine) -> Result<&str, Fault> {
    let missing = || Fault::new(line.at, format!("`--{}` wants a value", line.name));
    line.value.as_deref().ok_or_else(missing)
}

fn number<T: std::str::FromStr>(line: &OptionLine) -> Result<T, Fault> {
    let text = value(line)?;
    let message = || {
        Fault::new(
            line.at,
            format!("`{text}` is no value for `--{}`", line.name),
        )
    };
    text.parse().map_err(|_| message())
}

/// A percentage with an optional fraction.
fn permille(line: &OptionLine) -> Result<i64, Fault> {
    let text = value(line)?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digit = fraction.chars().next().and_then(|c| c.to_digit(10));
    match (whole.parse::<u16>(), digit) {
        (Ok(whole), Some(digit)) => Ok(i64::from(whole) * 10 + i64::from(digit)),
        _ => Err(Fault::new(line.at, format!("`{text}` is no percentage"))),
    }
}

/// Microseconds of a duration.
pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
