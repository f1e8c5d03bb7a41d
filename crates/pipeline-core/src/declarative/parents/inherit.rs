//! What children have of their parent.

use crate::model::record::{Added, Op, RawRecord};

/// Members of a parent that its children get before their own, where their own have no value.
pub(in crate::declarative) struct Inheritance<'p> {
    members: Vec<(&'static str, &'p str)>,
    /// What a child gets that has none of them.
    all: Added,
}

impl<'p> Inheritance<'p> {
    pub(in crate::declarative) fn of(
        parent: &'p RawRecord,
        inherited: &[(&'static str, &'static str)],
    ) -> Self {
        let members: Vec<(&str, &str)> = inherited
            .iter()
            .filter_map(|(member, name)| Some((*name, parent.member(member)?)))
            .collect();
        Self {
            all: Added::before(members.iter().copied()),
            members,
        }
    }

    /// The child with what it inherits.
    pub(in crate::declarative) fn give(&self, child: RawRecord) -> RawRecord {
        if child.op() == Op::Reject {
            return child;
        }
        let is_missing =
            |(name, _): &&(&str, &str)| child.member(name).is_none_or(|value| value == "null");
        let missing: Vec<(&str, &str)> = self.members.iter().filter(is_missing).copied().collect();
        if missing.len() == self.members.len() {
            child.with(&self.all)
        } else {
            child.with(&Added::before(missing))
        }
    }
}
