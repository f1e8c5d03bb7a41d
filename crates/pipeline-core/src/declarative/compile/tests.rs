//! What each word of the language makes of an endpoint.

use std::fmt::Write as _;

use super::*;
use crate::connector::paginate::AfterLastId;
use crate::connector::slice::TimeSlicer;
use crate::connector::{EmbeddedList, RecordMap, Transform};
use crate::declarative::{ParentRef, Vendor};
use crate::error::{Error, ErrorKind};
use crate::model::record::RawRecord;
use crate::model::schema::{DataType, Field, TimeFormat};

/// A vendor with one word of each kind.
#[derive(Debug)]
struct Shop {
    has_plan: bool,
}

#[derive(Clone, Copy, Debug)]
enum Pages {
    AfterId,
    One,
}

impl Vendor for Shop {
    type Pages = Pages;
    type Slices = &'static str;
    type Requires = &'static str;
    /// A parameter of the list as it is stored, which is not asked for as that of a parent.
    type List = Option<(&'static str, &'static str)>;
    type Stream = bool;

    const PAGES: Pages = Pages::AfterId;
    const LIST: Self::List = None;
    const STREAM: bool = false;

    fn request(&self, list: &ListDef<Self>) -> Endpoint {
        let endpoint = Endpoint::get(list.name, list.path).buckets(["account"]);
        match list.pages {
            Pages::AfterId => endpoint.paginate(AfterLastId {
                param: "after",
                more: "more",
                id: "id",
            }),
            Pages::One => endpoint,
        }
    }

    fn slices(&self, _list: &ListDef<Self>, param: &'static str, endpoint: Endpoint) -> Endpoint {
        endpoint.slices(TimeSlicer::newest_first(
            param,
            "until",
            TimeFormat::UnixSeconds,
        ))
    }

    fn finish(&self, list: &ListDef<Self>, endpoint: Endpoint) -> Endpoint {
        match list.facts {
            Some((name, value)) => endpoint.query(name, value),
            None => endpoint,
        }
    }

    fn stream(&self, _list: &ListDef<Self>, def: &StreamDef<Self>, stream: Stream) -> Stream {
        if def.facts {
            stream.named(format!("{}_of_this_shop", def.name))
        } else {
            stream
        }
    }

    fn parent(&self, _child: &ListDef<Self>, parent: ListDef<Self>) -> ListDef<Self> {
        ListDef {
            facts: None,
            ..parent
        }
    }

    fn embedded(
        &self,
        _owner: &ListDef<Self>,
        _list: &ListDef<Self>,
        member: &'static str,
        rest: Endpoint,
    ) -> EmbeddedList {
        EmbeddedList::new(member, "more", rest)
    }

    fn missing(&self, _list: &ListDef<Self>, requires: &'static str) -> Option<Error> {
        let error = || Error::new(ErrorKind::Unsupported, format!("needs {requires}"));
        (!self.has_plan).then(error)
    }

    fn columns(stream: &str) -> &'static [Field] {
        match stream {
            "orders" => ORDERS,
            _ => &[],
        }
    }
}

const ORDERS: &[Field] = &[
    Field::new("id", DataType::String),
    Field::new("secret", DataType::String),
    Field::new("total", DataType::String),
];
const TOTAL: &[Field] = &[Field::new("total", DataType::Int64)];
const SHOP: &[Field] = &[Field::new("shop", DataType::Int64)];

const fn list(name: &'static str) -> ListDef<Shop> {
    ListDef::get(name, "/list").records("data")
}

fn is_paid(order: &RawRecord) -> bool {
    order.member("paid") == Some("true")
}

const AS_IT_IS: RecordMap = |record| Ok(record.clone());

/// An endpoint in words.
fn described(endpoint: &Endpoint) -> String {
    let mut text = format!("{} {} {:?}", endpoint.name, endpoint.path, endpoint.mode);
    let mut say = |what: String| {
        let _ = write!(text, " | {what}");
    };
    if !endpoint.query.is_empty() {
        let query = endpoint.query.iter();
        let query: Vec<_> = query
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        say(query.join(" "));
    }
    if *endpoint.buckets != ["account"] {
        say(endpoint.buckets.join(", "));
    }
    if format!("{:?}", endpoint.paginator) == "SinglePage" {
        say("one page".to_owned());
    }
    if format!("{:?}", endpoint.slicer) != "SingleSlice" {
        say("sliced".to_owned());
    }
    if let Some(cursor) = endpoint.cursor {
        say(format!("by {}", cursor.field));
    }
    let flags = [
        (endpoint.opt_in, "opt in"),
        (endpoint.is_correcting(), "corrects"),
        (endpoint.cache_pages.is_some(), "cached"),
    ];
    for (_, flag) in flags.iter().filter(|(is_set, _)| *is_set) {
        say((*flag).to_owned());
    }
    if let Some(parent) = &endpoint.parent {
        let filtered = if parent.when.is_some() { " some" } else { "" };
        let owned = if parent.owns { " cascading" } else { "" };
        let passed = &parent.inherited;
        say(format!(
            "of{filtered} [{}] {passed:?}{owned}",
            described(&parent.endpoint)
        ));
    }
    for feed in endpoint.feeds.iter() {
        let stream = &feed.stream;
        let columns = stream.schema().fields().iter();
        let columns: Vec<_> = columns
            .map(|field| format!("{}: {:?}", field.name, field.data_type))
            .collect();
        let inside = feed.inside.map_or("", |_| " embedded");
        say(format!(
            "{}{inside} at {} by {} {:?} ({})",
            stream.name(),
            feed.path.0.join("/"),
            stream.key().join("+"),
            stream.deletion(),
            columns.join(", ")
        ));
    }
    for nested in endpoint.nested.iter() {
        say(format!(
            "completes {} from {} {:?}",
            nested.member, nested.list.path, nested.inherited
        ));
    }
    text
}

#[test]
fn every_word_becomes_what_it_says() {
    const CASES: &[(ListDef<Shop>, &str)] = &[
        (list("a"), "a /list FullRefresh"),
        (
            list("a").pages(Pages::One),
            "a /list FullRefresh | one page",
        ),
        (
            list("a").slices("since").incremental(),
            "a /list Incremental | sliced",
        ),
        (
            list("a").incremental().full_refresh(),
            "a /list FullRefresh",
        ),
        (
            list("a").cursor("created", TimeFormat::Rfc3339),
            "a /list FullRefresh | by created",
        ),
        (
            list("a")
                .params(&[("x", "1"), ("y", "2")])
                .facts(Some(("z", "3"))),
            "a /list FullRefresh | x=1 y=2 z=3",
        ),
        (
            list("a").cost(&["export", "account"]),
            "a /list FullRefresh | export, account",
        ),
        (
            list("a").opt_in().corrects(),
            "a /list FullRefresh | opt in | corrects",
        ),
        (
            list("a").cache_pages(|record| Ok(Some(record.clone()))),
            "a /list FullRefresh | cached",
        ),
        (
            list("a").streams(&[StreamDef::new("s", SHOP).key(&["x", "y"])]),
            "a /list FullRefresh | s at data by x+y BySnapshot (shop: Int64)",
        ),
        (
            list("a").incremental().streams(&[
                StreamDef::new("s", SHOP).facts(true),
                StreamDef::new("t", &[])
                    .records("")
                    .key(&[])
                    .deletes(Deletes::marked("gone", "true"))
                    .transform(Transform::Map(AS_IT_IS)),
            ]),
            "a /list Incremental | s_of_this_shop at data by id Invisible (shop: Int64) \
             | t at  by  Marked { field: \"gone\", value: \"true\" } ()",
        ),
        (
            list("a").streams(&[StreamDef::generated("orders")
                .added(&[TOTAL, SHOP])
                .hidden(&["secret"])]),
            "a /list FullRefresh | orders at data by id BySnapshot \
             (id: String, total: Int64, shop: Int64)",
        ),
    ];
    for (list, expected) in CASES {
        let compiled = compile(&[*list], &Shop { has_plan: true });
        assert_eq!(compiled.len(), 1);
        assert_eq!(described(&compiled[0]), *expected);
    }
}

#[test]
fn a_child_is_read_as_its_parent_is_unless_it_says_otherwise() {
    const LINES: &[StreamDef<Shop>] = &[StreamDef::new("lines", &[])];
    let orders = list("orders")
        .slices("since")
        .incremental()
        .facts(Some(("expand", "all")));
    let lines = |parent| list("lines").child_of(parent).streams(LINES);
    let compiled =
        |lists: &[ListDef<Shop>]| described(&compile(lists, &Shop { has_plan: true })[1]);
    let parent = ParentRef::to("orders");
    assert_eq!(
        compiled(&[
            orders,
            lines(
                parent
                    .filter(is_paid)
                    .include(&[("id", "order")])
                    .cascade_delete()
            )
        ]),
        "lines /list Incremental | sliced \
         | of some [orders /list Incremental | sliced] [(\"id\", \"order\")] cascading \
         | lines at data by id Invisible ()"
    );
    assert_eq!(
        compiled(&[orders.full_refresh(), lines(parent).incremental()]),
        "lines /list Incremental | sliced | of [orders /list FullRefresh | sliced] [] \
         | lines at data by id Invisible ()"
    );
    let whole = [orders.full_refresh(), lines(parent)];
    assert!(whole[1].is_whole(&whole) && !lines(parent).is_whole(&[orders]));
}

#[test]
fn a_list_inside_of_records_is_read_with_them() {
    const LISTS: &[ListDef<Shop>] = &[
        list("refunds")
            .embedded_in(
                ParentRef::to("orders").include(&[("id", "order")]),
                "refunds",
            )
            .streams(&[StreamDef::new("refunds", &[])]),
        list("orders")
            .incremental()
            .streams(&[StreamDef::new("orders", &[])]),
        list("orders.notes").embedded_in(ParentRef::to("orders"), "notes"),
        list("lines").child_of(ParentRef::to("orders")),
    ];
    let compiled = compile(LISTS, &Shop { has_plan: true });
    assert_eq!(
        compiled.iter().map(described).collect::<Vec<_>>(),
        [
            "orders /list Incremental | orders at data by id Invisible () \
             | refunds embedded at data/*/refunds/data by id Invisible () \
             | completes refunds from /list [(\"id\", \"order\")] | completes notes from /list []",
            // Nothing of its parents is stored, so nothing inside of them is completed.
            "lines /list Incremental | of [orders /list Incremental \
             | orders at data by id Invisible ()] []",
        ]
    );
}

#[test]
fn what_a_list_requires_is_reported_in_its_order() {
    let list = list("a").requires(&["a plan", "a role"]);
    assert!(list.unmet(&Shop { has_plan: true }).is_none());
    let unmet = list.unmet(&Shop { has_plan: false });
    assert_eq!(
        unmet.map(|error| error.message().to_owned()).as_deref(),
        Some("needs a plan")
    );
}

#[test]
#[should_panic(expected = "`lines` belongs to the unknown list `orders`")]
fn an_unknown_parent_is_a_defect_of_the_table() {
    compile(
        &[list("lines").child_of(ParentRef::to("orders"))],
        &Shop { has_plan: true },
    );
}
