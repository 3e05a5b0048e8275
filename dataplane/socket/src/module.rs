//! Parameters of the kernel modules whose work the stack does, under their names in
//! `/sys/module/MODULE/parameters`.

use millrace_stack::{CubicParameters, DctcpParameters};

use crate::errno::Errno;
use crate::sockets::Sockets;

/// The module of CUBIC.
const CUBIC: &str = "tcp_cubic";
/// The module of DCTCP.
const DCTCP: &str = "tcp_dctcp";

impl Sockets {
    /// A parameter as the file would show it; `None` when there is no such module or parameter.
    pub fn module_parameter(&self, module: &str, name: &str) -> Option<String> {
        if module == DCTCP {
            return dctcp_parameter(self.sysctls.dctcp(), name);
        }
        if module != CUBIC {
            return None;
        }
        let cubic = self.sysctls.cubic();
        let number = match name {
            "fast_convergence" => cubic.fast_convergence.into(),
            "beta" => cubic.beta.into(),
            "initial_ssthresh" => cubic.initial_ssthresh,
            "bic_scale" => cubic.bic_scale.into(),
            "tcp_friendliness" => cubic.tcp_friendliness.into(),
            "hystart" => cubic.hystart.into(),
            "hystart_plus" => cubic.hystart_plus.into(),
            "hystart_detect" => cubic.hystart_detect.into(),
            "hystart_low_window" => cubic.hystart_low_window,
            "hystart_ack_delta_us" => cubic.hystart_ack_delta_us,
            _ => return None,
        };
        Some(number.to_string())
    }

    /// Sets a parameter as writing to its file would: `ENOENT` when there is none, `EINVAL` when it
    /// cannot be so. Connections go by it from now on, but not those with knobs of their own.
    pub fn set_module_parameter(
        &mut self,
        module: &str,
        name: &str,
        value: &str,
    ) -> Result<(), Errno> {
        match module {
            CUBIC => set_cubic(self.sysctls.cubic_mut(), name, value)?,
            DCTCP => set_dctcp(self.sysctls.dctcp_mut(), name, value)?,
            _ => return Err(Errno::ENOENT),
        }
        self.stack.set_tunables(self.sysctls.tunables());
        Ok(())
    }
}

fn dctcp_parameter(dctcp: &DctcpParameters, name: &str) -> Option<String> {
    match name {
        "dctcp_shift_g" => Some(dctcp.dctcp_shift_g.to_string()),
        "dctcp_alpha_on_init" => Some(dctcp.dctcp_alpha_on_init.to_string()),
        _ => None,
    }
}

fn set_dctcp(dctcp: &mut DctcpParameters, name: &str, value: &str) -> Result<(), Errno> {
    let number: u16 = value.trim().parse().map_err(|_| Errno::EINVAL)?;
    match name {
        "dctcp_shift_g" if number <= 10 => dctcp.dctcp_shift_g = number as u8,
        "dctcp_alpha_on_init" => dctcp.dctcp_alpha_on_init = number.min(1_024),
        "dctcp_shift_g" => return Err(Errno::EINVAL),
        _ => return Err(Errno::ENOENT),
    }
    Ok(())
}

fn set_cubic(cubic: &mut CubicParameters, name: &str, value: &str) -> Result<(), Errno> {
    let number: u32 = value.trim().parse().map_err(|_| Errno::EINVAL)?;
    let at_most = |limit: u32| {
        let is_good = (1..=limit).contains(&number);
        is_good.then_some(number as u16).ok_or(Errno::EINVAL)
    };
    match name {
        "fast_convergence" => cubic.fast_convergence = number != 0,
        "beta" => cubic.beta = at_most(1_023)?,
        "initial_ssthresh" => cubic.initial_ssthresh = number,
        "bic_scale" => cubic.bic_scale = at_most(u16::MAX.into())?,
        "tcp_friendliness" => cubic.tcp_friendliness = number != 0,
        "hystart" => cubic.hystart = number != 0,
        "hystart_plus" => cubic.hystart_plus = number != 0,
        "hystart_detect" => cubic.hystart_detect = (number & 3) as u8,
        "hystart_low_window" => cubic.hystart_low_window = number,
        "hystart_ack_delta_us" => cubic.hystart_ack_delta_us = number,
        _ => return Err(Errno::ENOENT),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    // behaviour: X2-23
    #[test]
    fn parameters_are_known_by_their_names_and_kept_within_bounds() {
        let mut cubic = CubicParameters::default();
        for (name, value) in [
            ("fast_convergence", "0"),
            ("beta", "512"),
            ("initial_ssthresh", "100"),
            ("bic_scale", "82"),
            ("tcp_friendliness", "0"),
            ("hystart", "0"),
            ("hystart_plus", "1"),
            ("hystart_detect", "1"),
            ("hystart_low_window", "32"),
            ("hystart_ack_delta_us", "1000"),
        ] {
            assert_eq!(set_cubic(&mut cubic, name, value), Ok(()), "{name}");
        }
        let expected = CubicParameters {
            fast_convergence: false,
            beta: 512,
            initial_ssthresh: 100,
            bic_scale: 82,
            tcp_friendliness: false,
            hystart: false,
            hystart_plus: true,
            hystart_detect: 1,
            hystart_low_window: 32,
            hystart_ack_delta_us: 1_000,
        };
        assert_eq!(cubic, expected);
        for (name, value, error) in [
            ("beta", "1024", Errno::EINVAL),
            ("beta", "none", Errno::EINVAL),
            ("bic_scale", "0", Errno::EINVAL),
            ("alpha", "1", Errno::ENOENT),
        ] {
            assert_eq!(set_cubic(&mut cubic, name, value), Err(error), "{name}");
        }
    }
}
