//! How Zendesk lists the records of a table: the part of the data file that says where, and with
//! which quirks.

use serde::Deserialize;

use crate::ZendeskPlan;
use crate::ledger::Fate;

/// Where and how the records of a table are listed.
#[derive(Debug, Deserialize)]
pub(crate) struct Listing {
    /// Under `/api/v2/`. `{id}` is the id of the record that owns the list; other braces stand for
    /// any id.
    pub(crate) path: String,
    /// The member of the answer that holds the records.
    pub(crate) key: String,
    pub(crate) pages: Pages,
    #[serde(default)]
    pub(crate) plan: Option<Plan>,
    /// A limit of its own.
    #[serde(default)]
    pub(crate) limit: Option<String>,
    /// Which parameters narrow it to a span of time.
    #[serde(default)]
    pub(crate) range: Option<Range>,
    #[serde(default)]
    pub(crate) help_center: bool,
    /// The table whose every record has a list of its own, of `per` records, in one of `one_in`
    /// cases.
    #[serde(default)]
    pub(crate) parent: Option<String>,
    #[serde(default = "one")]
    pub(crate) per: u64,
    #[serde(default = "one")]
    pub(crate) one_in: u64,
    /// A refusal has no body, and says that it is HTML.
    #[serde(default)]
    pub(crate) empty_403: bool,
    /// Deleted records show only with `exclude_deleted=false`.
    #[serde(default)]
    pub(crate) hides_deleted: bool,
    /// Which of the records of the table that it follows.
    #[serde(default)]
    pub(crate) of: Of,
}

fn one() -> u64 {
    1
}

/// How pages follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Pages {
    /// An incremental export by cursor.
    Export,
    /// An incremental export by time.
    Time,
    /// The same without `end_of_stream`.
    #[serde(rename = "time_pages")]
    TimeUntold,
    /// A feed of changes whose link to the next page is always there.
    Feed,
    /// By cursor when `page[size]` is asked for, numbered otherwise.
    Cursor,
    /// Numbered.
    Offset,
    /// All in one answer.
    Single,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Plan {
    Professional,
    Enterprise,
}

impl Plan {
    /// Whether an account has it.
    pub(crate) fn is_in(self, plan: ZendeskPlan) -> bool {
        let needed = match self {
            Plan::Professional => ZendeskPlan::Professional,
            Plan::Enterprise => ZendeskPlan::Enterprise,
        };
        plan >= needed
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Range {
    /// Two values of `filter[created_at][]`.
    Created,
    /// `start_time` and `end_time`.
    StartEnd,
    /// `since`.
    Since,
}

/// Which records of another table a table has a record for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Of {
    #[default]
    Live,
    /// Those that can be restored.
    Deleted,
    /// Those that are deleted, for good or not.
    Inactive,
    Any,
    /// All but those that were deleted for good, where the account erases what belonged to them.
    Kept,
}

impl Of {
    pub(crate) fn includes(self, fate: Fate, erases: bool) -> bool {
        match self {
            Of::Kept => fate != Fate::Gone && !(erases && fate == Fate::Scrubbed),
            Of::Live => fate == Fate::Live,
            Of::Deleted => fate == Fate::Deleted,
            Of::Inactive => matches!(fate, Fate::Deleted | Fate::Scrubbed),
            Of::Any => fate != Fate::Gone,
        }
    }
}
