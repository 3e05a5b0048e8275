//! A reload of a file with an error says what and where, exits with an error, and changes nothing.

use anyhow::{Result, ensure};

use super::super::peers::curl;
use super::super::{Bed, Case, plan};

pub(super) const CASE: Case = Case {
    name: "bad_configuration_changes_nothing",
    devices: super::AF_PACKET,
    needs_millrace: true,
    wanted: super::plain,
    test,
};

fn test(bed: &mut Bed) -> Result<String> {
    let millrace = bed.millrace()?;
    let good = millrace.settings.text();
    let before = millrace.show("listeners")?;
    let broken = [
        (
            "an unknown key",
            good.replacen("balance = ", "balanse = ", 1),
        ),
        (
            "an unknown pool",
            good.replacen("pool = \"web-v4\"", "pool = \"webb\"", 1),
        ),
        (
            "a wrong type",
            good.replacen("mbufs = 32768", "mbufs = \"many\"", 1),
        ),
        ("two listeners on one address", {
            let again = "[[listener]]\nname = \"again\"\naddress = \"10.8.0.100\"\n\
                         ports = \"80\"\npool = \"web-v4\"\n";
            format!("{good}\n{again}")
        }),
        ("no TOML", "[[[".to_owned()),
    ];
    for (what, text) in &broken {
        ensure!(text != &good, "{what}: the test changed nothing");
        millrace.write_config(text)?;
        let checked = millrace.check()?;
        ensure!(
            checked.status.code() == Some(2),
            "check of {what} ended with {}",
            checked.status
        );
        let reloaded = millrace.reload()?;
        ensure!(!reloaded.success(), "reload accepted {what}");
        let said = format!("{}{}", reloaded.stdout, reloaded.stderr);
        ensure!(
            said.contains("millrace.toml"),
            "{what}: no file named in: {said}"
        );
        ensure!(
            millrace.show("listeners")? == before,
            "{what}: the listeners changed"
        );
    }
    millrace.write_config(&good)?;
    let reloaded = millrace.reload()?;
    ensure!(
        reloaded.success(),
        "the good file is refused: {}",
        reloaded.stderr
    );
    for vip in plan::VIPS {
        curl::fetch(bed.client(), &plan::url(vip, "who"))?;
    }
    Ok(format!("{} broken files refused", broken.len()))
}
