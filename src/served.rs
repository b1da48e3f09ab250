//! Forms as they were served: what of a form somebody changed before sending it back.
//!
//! One form for name, role, e-mail and password, answered by one redirect: what was changed is known
//! only against the page as the same session was last served it. Of a page no value is kept, only
//! keyed hashes of the fields that a route's `compare` names. The memory is bounded (the least
//! recently used go first) and lives on the pipeline's thread alone. What was never seen served
//! compares with nothing: it is open, never "changed".

use quick_cache::unsync::Cache;

use crate::body::form::Fields;
use crate::body::html_form;

/// The most served forms remembered.
pub const CAPACITY: usize = 20_000;

/// The fields of one served form, as keyed hashes of their values.
#[derive(Clone, Debug)]
pub struct ServedForm {
    key: [u8; 32],
    fields: Vec<(String, [u8; 8])>,
}

impl ServedForm {
    /// What a page served; `None` if none of the fields is in it.
    pub fn of_page(page: &str, names: &[String], key: [u8; 32]) -> Option<ServedForm> {
        let served = html_form::served(page, names);
        let fields: Vec<_> =
            served.into_iter().map(|(name, values)| (name, hash(&key, values.iter().map(String::as_str)))).collect();
        (!fields.is_empty()).then_some(ServedForm { key, fields })
    }

    /// The same from values by name, for tests beside a route.
    pub fn of_values<'v>(values: impl Iterator<Item = (&'v str, Vec<&'v str>)>) -> ServedForm {
        let key = [0; 32];
        let fields = values.map(|(name, values)| (name.to_owned(), hash(&key, values.into_iter()))).collect();
        ServedForm { key, fields }
    }

    /// Whether what was sent for a field differs from what was served; `None` if the page had no
    /// such field.
    pub fn changed(&self, name: &str, sent: &Fields<'_>) -> Option<bool> {
        let (_, served) = self.fields.iter().find(|(known, _)| known == name)?;
        Some(*served != hash(&self.key, sent.all(name)))
    }
}

/// Values of one field, in whatever order and with whatever line ends a browser sends them.
fn hash<'v>(key: &[u8; 32], values: impl Iterator<Item = &'v str>) -> [u8; 8] {
    let mut values: Vec<String> = values.map(|value| value.trim().replace('\r', "")).collect();
    values.sort_unstable();
    let mut hasher = blake3::Hasher::new_keyed(key);
    for value in values {
        hasher.update(&value.len().to_be_bytes());
        hasher.update(value.as_bytes());
    }
    let mut short = [0; 8];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    short
}

/// Which form of whom: the parts that tell it from others, as one keyed hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FormKey([u8; 16]);

/// The forms that sessions were served.
pub struct ServedForms {
    key: [u8; 32],
    memory: Cache<FormKey, ServedForm>,
}

impl ServedForms {
    /// An empty memory whose hashes are keyed with `key`.
    pub fn new(key: [u8; 32]) -> ServedForms {
        ServedForms { key, memory: Cache::with_weighter(64, CAPACITY as u64, quick_cache::UnitWeighter) }
    }

    /// The key of a form: whose, and which.
    pub fn key(&self, parts: &[&[u8]]) -> FormKey {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        for part in parts {
            hasher.update(&part.len().to_be_bytes());
            hasher.update(part);
        }
        let mut short = [0; 16];
        short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        FormKey(short)
    }

    /// Remembers a page; one without any of the fields changes nothing.
    pub fn keep(&mut self, at: FormKey, page: &str, names: &[String]) {
        if let Some(form) = ServedForm::of_page(page, names, self.key) {
            self.memory.insert(at, form);
        }
    }

    /// The form as it was last served.
    pub fn recall(&mut self, at: &FormKey) -> Option<ServedForm> {
        self.memory.get(at).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::form;

    const PAGE: &str = "<form><input name=email value='a@example.test'><select name=role><option selected>author</select>\
        <input type=checkbox name=staff><select name=groups multiple><option selected>1<option selected>2</select></form>";

    fn names() -> Vec<String> {
        ["email", "role", "staff", "groups", "missing"].map(str::to_owned).to_vec()
    }

    #[test]
    fn what_was_touched_is_told_from_what_was_sent_along() {
        let mut forms = ServedForms::new([7; 32]);
        let at = forms.key(&[b"alice", b"/edit"]);
        forms.keep(at, PAGE, &names());
        let served = forms.recall(&at).expect("the form");
        let sent = form::parse(b"email=a%40example.test&role=editor&groups=2&groups=1", false);
        let changed = |name: &str| served.changed(name, &sent);
        assert_eq!(changed("email"), Some(false));
        assert_eq!(changed("role"), Some(true));
        assert_eq!(changed("staff"), Some(false), "a box without a tick sends nothing");
        assert_eq!(changed("groups"), Some(false), "in whatever order");
        assert_eq!(changed("missing"), None, "the page had none");
        let ticked = form::parse(b"staff=on", false);
        assert_eq!(served.changed("staff", &ticked), Some(true));
    }

    #[test]
    fn another_session_or_another_user_s_form_is_another() {
        let mut forms = ServedForms::new([7; 32]);
        let at = forms.key(&[b"alice", b"/edit", b"4"]);
        forms.keep(at, PAGE, &names());
        let others = [forms.key(&[b"bob", b"/edit", b"4"]), forms.key(&[b"alice", b"/edit", b"5"])];
        assert!(others.iter().all(|key| forms.recall(key).is_none()));
    }

    #[test]
    fn a_page_without_the_fields_leaves_the_last_one_in_place() {
        let mut forms = ServedForms::new([7; 32]);
        let at = forms.key(&[b"alice"]);
        forms.keep(at, PAGE, &names());
        forms.keep(at, "<p>the session has ended</p>", &names());
        assert!(forms.recall(&at).is_some());
    }

    #[test]
    fn the_memory_of_forms_is_bounded_and_holds_no_value() {
        let mut forms = ServedForms::new([7; 32]);
        for i in 0..CAPACITY + 5_000 {
            let at = forms.key(&[&i.to_be_bytes()]);
            forms.keep(at, "<input name=email value=who@example.test>", &names());
        }
        assert!(forms.memory.len() <= CAPACITY);
        let at = forms.key(&[b"x"]);
        forms.keep(at, PAGE, &names());
        assert!(!format!("{:?}", forms.recall(&at)).contains("example"));
    }
}
