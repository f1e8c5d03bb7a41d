#![allow(clippy::unwrap_used)]

use pipeline_core::SyncMode;

use super::*;
use crate::change_feed::heard;
use crate::vendor::Facts;

#[test]
fn a_list_feeds_the_stream_of_its_name_or_is_named_after_the_member_that_it_completes() {
    for list in lists() {
        let member = list.embedded.zip(list.parent);
        match (list.streams, member) {
            ([stream], _) => assert_eq!(stream.name, list.name),
            ([], Some((member, parent))) => {
                assert_eq!(list.name, format!("{}.{member}", parent.list));
            }
            _ => panic!("`{}` feeds more than one stream, or none", list.name),
        }
    }
}

#[test]
fn lists_of_new_objects_are_read_where_events_tell_of_those_of_the_others() {
    let heard = heard();
    for list in streams() {
        let Some(parent) = asked_for_each(list) else {
            continue;
        };
        let shows_new = stream(parent).unwrap().cursor.is_some();
        let expected = if heard.contains(list.name) && shows_new {
            SyncMode::Incremental
        } else {
            SyncMode::FullRefresh
        };
        assert_eq!(list.mode, expected, "{}", list.name);
    }
}

#[test]
fn rows_of_a_list_that_belongs_to_an_object_name_it() {
    for list in streams().filter(|list| list.parent.is_some()) {
        let column = owner(list).unwrap();
        let schema = list.streams[0].schema();
        assert!(schema.field(column).is_some(), "{} {column}", list.name);
    }
}

#[test]
fn members_that_are_not_to_be_had_are_among_those_that_are_asked_for() {
    for list in lists() {
        let Facts { expand, spare, .. } = list.facts;
        assert!(
            spare.iter().all(|member| expand.contains(member)),
            "{}",
            list.name
        );
    }
}
