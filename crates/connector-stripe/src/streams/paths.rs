//! Which list of the tables a request asks.

use std::borrow::Cow;

use super::{lists, objects};

/// The template that a request's path was made from: one of the table, or that of a single object
/// of a list; the path itself when there is none.
pub(crate) fn template(path: &str) -> Cow<'_, str> {
    let of_list = || path.rsplit_once('/').and_then(|(list, _)| listed(list));
    listed(path)
        .map(Cow::Borrowed)
        .or_else(|| Some(format!("{}/{{id}}", of_list()?).into()))
        .unwrap_or(path.into())
}

/// The template of the table that a list's path was made from.
fn listed(path: &str) -> Option<&'static str> {
    let known = lists().flat_map(|list| [list.path, objects(list)]);
    let fits = |template: &&str| {
        let (mut template, mut path) = (template.split('/'), path.split('/'));
        loop {
            match (template.next(), path.next()) {
                (None, None) => return true,
                (Some(expected), Some(found)) if expected == found || expected.starts_with('{') => {
                }
                _ => return false,
            }
        }
    };
    known.into_iter().find(fits)
}

/// Whether a path is that of a list which the account has.
pub(crate) fn is_of_account(path: &str) -> bool {
    listed(path).is_some_and(|template| !template.contains('{'))
}

/// Whether a request asks a list that records share for the part of one of them.
pub(crate) fn is_of_one_record(path: &str, parameters: &[(String, String)]) -> bool {
    let names_record = |(name, template): &(&'static str, &'static str)| {
        template.contains('{') && parameters.iter().any(|(known, _)| known == name)
    };
    lists()
        .filter(|list| list.path == path)
        .any(|list| list.params.iter().any(names_record))
}

/// Whether a path is that of a list which belongs to a record.
pub(crate) fn belongs_to_record(path: &str) -> bool {
    listed(path).is_some_and(|template| template.contains('{'))
}
