//! What a vendor adds to the language of declarations.

use std::fmt::Debug;

use super::list_def::ListDef;
use super::stream_def::StreamDef;
use crate::connector::{EmbeddedList, Endpoint, Stream};
use crate::error::Error;
use crate::model::schema::Field;

/// A vendor's own words, and what they mean.
///
/// The associated types are the words that the vendor's tables use; a value of the implementing
/// type is the account as it is configured, which the words are read with. The methods are called
/// by [`compile`](super::compile::compile), once for every list.
///
/// ```
/// use pipeline_core::declarative::{ListDef, StreamDef, Vendor, compile};
/// use pipeline_core::paginate::AfterLastId;
/// use pipeline_core::{DataType, Endpoint, Field, SyncMode};
///
/// #[derive(Debug)]
/// struct Acme;
///
/// impl Vendor for Acme {
///     type Pages = ();
///     type Slices = ();
///     type Requires = ();
///     type List = ();
///     type Stream = ();
///     const PAGES: () = ();
///     const LIST: () = ();
///     const STREAM: () = ();
///
///     fn request(&self, list: &ListDef<Self>) -> Endpoint {
///         Endpoint::get(list.name, list.path)
///             .paginate(AfterLastId { param: "after", more: "has_more", id: "id" })
///     }
/// }
///
/// const ITEM: &[Field] = &[Field::new("id", DataType::String)];
/// const LISTS: &[ListDef<Acme>] = &[
///     ListDef::get("items", "/v1/items").records("data").streams(&[StreamDef::new("items", ITEM)]),
/// ];
///
/// let endpoints = compile(LISTS, &Acme);
/// assert_eq!(endpoints[0].mode(), SyncMode::FullRefresh);
/// ```
pub trait Vendor: Debug + Sized + 'static {
    /// How the pages of a list follow each other.
    type Pages: Copy + Debug + Send + Sync + 'static;

    /// How a list is cut into slices.
    type Slices: Copy + Debug + Send + Sync + 'static;

    /// What an account or its configuration must have before a list can be read.
    type Requires: Copy + Debug + Send + Sync + 'static;

    /// What else must be known of a list.
    type List: Copy + Debug + Send + Sync + 'static;

    /// What else must be known of a stream.
    type Stream: Copy + Debug + Send + Sync + 'static;

    /// The pages of a list that does not say.
    const PAGES: Self::Pages;

    /// The facts of a list that does not say.
    const LIST: Self::List;

    /// The facts of a stream that does not say.
    const STREAM: Self::Stream;

    /// The requests of a list, with its paginator and the size of its pages. Parameters, limits and
    /// all the rest of the entry are added to it.
    fn request(&self, list: &ListDef<Self>) -> Endpoint {
        Endpoint::get(list.name, list.path)
    }

    /// Cuts the list into slices. Called for lists that say [how](ListDef::slices).
    fn slices(&self, list: &ListDef<Self>, slices: Self::Slices, endpoint: Endpoint) -> Endpoint {
        let _ = (list, slices);
        endpoint
    }

    /// Adds what only this vendor's endpoints have, such as parameters that depend on the
    /// configuration. It is called when all but the streams is there, also for the rest of a list
    /// that is [embedded](ListDef::embedded_in).
    fn finish(&self, list: &ListDef<Self>, endpoint: Endpoint) -> Endpoint {
        let _ = list;
        endpoint
    }

    /// Adds what only this vendor's streams have, such as the columns that the configuration names.
    fn stream(&self, list: &ListDef<Self>, def: &StreamDef<Self>, stream: Stream) -> Stream {
        let _ = (list, def);
        stream
    }

    /// The list as it is walked for the lists of its records. Nothing of its records is stored
    /// then.
    fn parent(&self, child: &ListDef<Self>, parent: ListDef<Self>) -> ListDef<Self> {
        let _ = child;
        parent
    }

    /// A list inside a member of the records of `owner`, and how it shows that `rest` has more of
    /// it.
    fn embedded(
        &self,
        owner: &ListDef<Self>,
        list: &ListDef<Self>,
        member: &'static str,
        rest: Endpoint,
    ) -> EmbeddedList {
        let _ = (owner, list);
        EmbeddedList::new(member, "has_more", rest)
    }

    /// Why something that a list requires is missing; none: it is there.
    fn missing(&self, list: &ListDef<Self>, requires: Self::Requires) -> Option<Error> {
        let _ = (list, requires);
        None
    }

    /// The generated columns of a stream; empty where it has none.
    fn columns(stream: &str) -> &'static [Field] {
        let _ = stream;
        &[]
    }
}
