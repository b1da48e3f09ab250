//! Forms as they were served, so that the one that comes back shows what was changed in it.

use super::Pipeline;
use crate::capture::queue::Captured;
use crate::event::Actor;
use crate::rules::facts::Facts;
use crate::session::Carried;

impl Pipeline {
    /// Remembers a form that is served, and recalls the one that is sent back. Whose it is says the
    /// actor, where known, else the session itself.
    pub(super) fn compare_forms(
        &mut self,
        captured: &Captured,
        facts: &mut Facts<'_>,
        presented: &[Carried],
        actor: Option<&Actor>,
    ) {
        let (rules, candidates) = (&captured.rules, &captured.candidates);
        let page = rules.serves(candidates, facts);
        let Some(route) = page.or_else(|| rules.compares(candidates, facts)) else { return };
        let Some(compare) = &route.compare else { return };
        let named = actor.and_then(|a| a.id.as_ref().or(a.login.as_ref()).or(a.email.as_ref()));
        let session = presented.first().and_then(|carried| carried.handle.shown().text());
        let Some(whose) = named.or(session.as_ref()) else { return };
        let which = compare.key.iter().find_map(|source| source.read(facts, &route.paths)).unwrap_or_default();
        let parts = [whose.as_str(), facts.host, &facts.path, route.id.as_str(), &which].map(str::as_bytes);
        let at = self.served.key(&parts);
        match page.and_then(|_| facts.response_body()) {
            Some(body) => self.served.keep(at, &body.text(), &compare.fields),
            None => facts.served = self.served.recall(&at),
        }
    }
}
