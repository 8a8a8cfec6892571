//! TEMP
use super::{About, Context, Control, ControlId};
use crate::decision::Findings;
use crate::fact::Fact;
use crate::hardened::{Draft, Hardened};
use crate::observed::Observed;

pub struct Namespaces;
static ABOUT: About = About {
    threat: "",
    rule: "",
    enforced_by: "",
    kernel_floor: "",
    refs: &[],
};
impl Control for Namespaces {
    fn id(&self) -> ControlId {
        ControlId::Namespaces
    }
    fn about(&self) -> &'static About {
        &ABOUT
    }
    fn decide(&self, _draft: &mut Draft, _cx: &Context<'_>, _findings: &mut Findings) {}
    fn facts(&self, _hardened: &Hardened, _seen: &Observed) -> Vec<Fact> {
        Vec::new()
    }
}
