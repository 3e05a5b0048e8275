//! The commands that are known, and what they mean.

use super::defaults;
use super::words::Line;
use crate::fault::Fault;
use crate::kernel::Setting;

/// What a command asks for.
pub(super) fn settings(line: &Line) -> Result<Vec<Setting>, Fault> {
    let unknown = || {
        let message = format!("no known form of command: `{}`", line.text());
        Fault::new(line.at, message)
    };
    let stages: Vec<Vec<&str>> = line
        .stages
        .iter()
        .map(|words| words.iter().map(String::as_str).collect())
        .collect();
    let known = match stages.as_slice() {
        [words] => single(words, line.output.as_deref()),
        [first, second] => pipeline(first, second),
        _ => None,
    };
    known.ok_or_else(unknown)
}

fn single(words: &[&str], output: Option<&str>) -> Option<Vec<Setting>> {
    let (command, arguments) = words.split_first()?;
    if let (&"echo", Some(path)) = (command, output) {
        return assignment(path, &arguments.join(" ")).map(|setting| vec![setting]);
    }
    if output.is_some() {
        return None;
    }
    let program = command.rsplit('/').next()?;
    match program {
        "defaults.sh" if arguments.is_empty() => Some(defaults::settings()),
        "set_sysctls.py" => arguments.iter().map(|word| from_word(word)).collect(),
        "sysctl" => sysctl(arguments),
        "tc" => discipline(arguments).map(|setting| vec![setting]),
        "ip" => ip(arguments).map(|setting| vec![setting]),
        "ethtool" => offloads(arguments),
        "nstat" => arguments.is_empty().then(|| vec![Setting::MarkCounters]),
        "rm" => removals(arguments),
        "dd" => file(arguments).map(|setting| vec![setting]),
        "true" | ":" => Some(Vec::new()),
        // What `set_sysctls.py` leaves behind. A kernel lives as long as its script: nothing
        // has to be put back.
        name if name.starts_with("sysctl_restore_") => Some(Vec::new()),
        _ => None,
    }
}

/// `nstat | grep Name`, `grep " 0A " /proc/net/tcp ... | grep ":1F90"`
fn pipeline(first: &[&str], second: &[&str]) -> Option<Vec<Setting>> {
    match (first, second) {
        (["nstat"], ["grep", name] | ["grep", "-q", name]) => {
            Some(vec![Setting::HasGrown((*name).to_owned())])
        }
        // State 0A is LISTEN; the port is in hexadecimal.
        (["grep", " 0A ", tables @ ..], ["grep", port] | ["grep", "-q", port])
            if tables
                .iter()
                .all(|path| matches!(*path, "/proc/net/tcp" | "/proc/net/tcp6")) =>
        {
            let port = u16::from_str_radix(port.strip_prefix(':')?, 16).ok()?;
            Some(vec![Setting::HasListener(port)])
        }
        _ => None,
    }
}

fn sysctl(arguments: &[&str]) -> Option<Vec<Setting>> {
    let forgives = arguments.contains(&"-e");
    let mut settings = Vec::new();
    for word in arguments
        .iter()
        .filter(|word| !matches!(**word, "-q" | "-w" | "-qw" | "-e"))
    {
        let mut setting = from_word(word)?;
        if let Setting::Tunable { is_optional, .. } = &mut setting {
            *is_optional = forgives;
        }
        settings.push(setting);
    }
    (!settings.is_empty()).then_some(settings)
}

/// `name=value`, where the name is a path or has dots or slashes.
fn from_word(word: &str) -> Option<Setting> {
    let (name, value) = word.split_once('=')?;
    assignment(name, value)
}

/// A tunable or a module's parameter.
fn assignment(path: &str, value: &str) -> Option<Setting> {
    let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some(parameter) = path.strip_prefix("/sys/module/") {
        let (module, name) = parameter.split_once("/parameters/")?;
        return Some(Setting::ModuleParameter {
            module: module.to_owned(),
            name: name.to_owned(),
            value,
        });
    }
    let name = path
        .strip_prefix("/proc/sys/")
        .unwrap_or(path)
        .replace('/', ".");
    name.starts_with("net.").then_some(Setting::Tunable {
        name,
        value,
        is_optional: false,
    })
}

/// `tc qdisc replace dev tun0 root fq`
fn discipline(arguments: &[&str]) -> Option<Setting> {
    match arguments {
        [
            "qdisc",
            "replace" | "add" | "change",
            "dev",
            _,
            "root",
            kind,
            ..,
        ] => Some(Setting::Discipline((*kind).to_owned())),
        ["qdisc", "del", "dev", _, "root"] => Some(Setting::Discipline("pfifo".to_owned())),
        _ => None,
    }
}

/// `ip tcp_metrics flush all`, `ip route change A via B dev C advmss 600 mtu lock 640 initcwnd 11`
fn ip(arguments: &[&str]) -> Option<Setting> {
    if let ["tcp_metrics", "flush"] | ["tcp_metrics", "flush", "all"] = arguments {
        return Some(Setting::FlushMetrics);
    }
    let ["route", "change" | "replace", _destination, rest @ ..] = arguments else {
        return None;
    };
    let (mut advertised_mss, mut mtu, mut is_mtu_locked, mut initial_window) =
        (None, None, false, None);
    let (mut initial_receive_window, mut rto_min_ms, mut window) = (None, None, None);
    let (mut is_quick_ack, mut is_ecn) = (false, false);
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        match *word {
            "via" | "dev" => {
                words.next()?;
            }
            "advmss" => advertised_mss = Some(words.next()?.parse().ok()?),
            "initcwnd" => initial_window = Some(words.next()?.parse().ok()?),
            "initrwnd" => initial_receive_window = Some(words.next()?.parse().ok()?),
            "rto_min" => rto_min_ms = Some(milliseconds(words.next()?)?),
            "window" => window = Some(words.next()?.parse().ok()?),
            "quickack" => is_quick_ack = words.next()?.parse::<u8>().ok()? != 0,
            "features" => is_ecn = *words.next()? == "ecn",
            // Where the route lies and who made it is nobody's business here.
            "proto" | "scope" | "src" | "table" | "metric" => {
                words.next()?;
            }
            "mtu" => {
                let mut value = words.next()?;
                if *value == "lock" {
                    is_mtu_locked = true;
                    value = words.next()?;
                }
                mtu = Some(value.parse().ok()?);
            }
            _ => return None,
        }
    }
    Some(Setting::Route {
        advertised_mss,
        mtu,
        is_mtu_locked,
        initial_window,
        initial_receive_window,
        rto_min_ms,
        window,
        is_quick_ack,
        is_ecn,
    })
}

/// A time as `ip` writes it: `50ms`, `1s`, a number of milliseconds.
fn milliseconds(text: &str) -> Option<u32> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u32 = digits.parse().ok()?;
    match text.get(digits.len()..)? {
        "" | "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        _ => None,
    }
}

/// `ethtool -K tun0 gso off tso off`
fn offloads(arguments: &[&str]) -> Option<Vec<Setting>> {
    let ["-K", _device, rest @ ..] = arguments else {
        return None;
    };
    let pairs = rest.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs
        .map(|pair| match pair {
            [feature, state @ ("on" | "off")] => Some(Setting::Offload {
                feature: (*feature).to_owned(),
                is_on: *state == "on",
            }),
            _ => None,
        })
        .collect()
}

/// `rm -f FILE...`
fn removals(arguments: &[&str]) -> Option<Vec<Setting>> {
    let files = arguments.iter().filter(|word| **word != "-f");
    Some(
        files
            .map(|path| Setting::RemoveFile((*path).to_owned()))
            .collect(),
    )
}

/// `dd bs=1 count=5 if=/dev/zero of=/tmp/file status=none`
fn file(arguments: &[&str]) -> Option<Setting> {
    let (mut block, mut count, mut path) = (512_usize, None, None);
    for word in arguments {
        match word.split_once('=')? {
            ("bs", value) => block = value.parse().ok()?,
            ("count", value) => count = value.parse::<usize>().ok(),
            ("if", "/dev/zero") | ("status", _) => {}
            ("of", value) => path = Some(value.to_owned()),
            _ => return None,
        }
    }
    /// Scripts need a few bytes; the bound keeps a typing error from taking all memory.
    const FILE_BYTES_MAX: usize = 64 << 20;
    let bytes = block
        .checked_mul(count?)
        .filter(|bytes| *bytes <= FILE_BYTES_MAX)?;
    Some(Setting::WriteFile { path: path?, bytes })
}
