//! A script that was read and is ready to run.

use crate::fault::ScriptError;
use crate::kernel::Network;
use crate::parser::{self, Tree};
use crate::settings::Settings;
use crate::variant::Variant;

/// A script with its variant. Reading it again for another variant is cheap.
#[derive(Clone, Debug)]
pub struct Script {
    pub(crate) name: String,
    pub(crate) tree: Tree,
    pub(crate) settings: Settings,
}

impl Script {
    /// Reads the text of a script. `name` is what error messages call it.
    ///
    /// # Errors
    ///
    /// The first place where the text is not the language, or asks for what is not known.
    pub fn parse(name: &str, text: &str, variant: Variant) -> Result<Self, ScriptError> {
        let in_file = |fault: crate::fault::Fault| fault.in_file(name);
        let tree = parser::parse(text, &variant.definitions()).map_err(in_file)?;
        let settings = Settings::new(&tree.options, variant).map_err(in_file)?;
        Ok(Self {
            name: name.to_owned(),
            tree,
            settings,
        })
    }

    /// The link and the addresses that the kernel must have.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.settings.network
    }

    /// How many events it has.
    #[must_use]
    pub fn events(&self) -> usize {
        self.tree.events.len()
    }
}
