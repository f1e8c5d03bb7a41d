//! Whether what the table of streams says is what the specification says.

use connector_stripe::{Inner, Place, Stream, event_types, stream, streams};

use super::super::openapi::{Property, Spec};
use super::columns::{self, TIMESTAMP};

/// Finds what the table says about a stream and the specification does not.
pub(super) fn verify(spec: &Spec, stream: &Stream) -> Result<(), String> {
    let component = spec.components.schemas.get(stream.object).ok_or_else(|| format!("there is no object `{}`", stream.object))?;
    verify_request(spec, stream)?;
    verify_object(component, stream)?;
    verify_expansions(spec, component, stream)?;
    verify_lists(spec, component, stream)
}

/// Finds an event that is asked for and does not exist. Stripe does not refuse such a name: it sends nothing.
pub(super) fn verify_events(spec: &Spec) -> Result<(), String> {
    let known = spec.event_types();
    match event_types().into_iter().find(|name| !known.contains(name.as_str())) {
        Some(name) => Err(format!("there is no event `{name}`")),
        None => Ok(()),
    }
}

/// The list exists, takes what we send and needs nothing else.
fn verify_request(spec: &Spec, stream: &Stream) -> Result<(), String> {
    let fixed = stream.query.iter().map(|(name, _)| *name);
    let filter = stream.cursor.filter(|_| stream.filtered).map(|_| "created");
    let partition = stream.partition.map(|(name, _)| name);
    let expand = (!stream.expand.is_empty()).then_some("expand");
    let paging = if stream.paged { &["limit", "starting_after"][..] } else { &[] };
    let sent: Vec<&str> = fixed.chain(filter).chain(partition).chain(expand).chain(paging.iter().copied()).collect();
    verify_operation(spec, stream.path, &sent)?;
    let places = stream.path.matches('{').count();
    let named = stream.query.iter().filter(|(_, value)| value.contains('{')).count();
    match stream.place {
        Place::Account if places + named > 0 => Err("a list of the account names no parent".to_owned()),
        Place::Each { .. } | Place::Inside { .. } if places + named != 1 => Err("the parent is not named once".to_owned()),
        _ => Ok(()),
    }
}

/// A GET takes these query parameters and requires no others.
fn verify_operation(spec: &Spec, path: &str, sent: &[&str]) -> Result<(), String> {
    let get = spec.get(path).ok_or_else(|| format!("GET {path} does not exist"))?;
    if let Some(required) = get.query().find(|parameter| parameter.required && !sent.contains(&parameter.name.as_str())) {
        return Err(format!("the list requires the parameter `{}`", required.name));
    }
    match sent.iter().find(|name| !get.takes().any(|known| known == **name)) {
        Some(name) => Err(format!("the list does not take the parameter `{name}`")),
        None => Ok(()),
    }
}

/// The object has its key, and its cursor is a time.
fn verify_object(component: &Property, stream: &Stream) -> Result<(), String> {
    let property = |name: &str| component.properties.get(name).ok_or_else(|| format!("the object has no member `{name}`"));
    for member in stream.key.iter().filter(|member| stream.parent_id != Some(**member)) {
        property(member)?;
    }
    if property("object")?.values != [stream.object] {
        return Err(format!("the object does not call itself `{}`", stream.object));
    }
    match stream.cursor {
        Some(cursor) if columns::data_type(property(cursor)?)? != TIMESTAMP => Err(format!("the cursor `{cursor}` is not a time")),
        _ => Ok(()),
    }
}

/// What is expanded can be: the first member by the object, what follows `data.` by the objects of that list.
fn verify_expansions(spec: &Spec, component: &Property, stream: &Stream) -> Result<(), String> {
    for path in stream.expand {
        let (member, below) = path.split_once(".data.").map_or((*path, None), |(member, below)| (member, Some(below)));
        let can = |component: &Property, member: &str| component.expandable.iter().any(|known| known == member);
        if !can(component, member) {
            return Err(format!("`{member}` cannot be expanded"));
        }
        let Some(below) = below else { continue };
        let child = streams()
            .find(|child| matches!(child.place, Place::Inside { parent, member: inside } if parent == stream.name && inside == member));
        let object = child.and_then(|child| spec.components.schemas.get(child.object));
        if !object.is_some_and(|object| can(object, below)) {
            return Err(format!("`{path}` cannot be expanded"));
        }
    }
    Ok(())
}

/// Every list inside the object is read to its end: as a stream of its own, or by a request for the rest.
fn verify_lists(spec: &Spec, component: &Property, stream: &Stream) -> Result<(), String> {
    for Inner { path, query, .. } in stream.inner {
        let sent: Vec<&str> = query.iter().map(|(name, _)| *name).chain(["limit", "starting_after"]).collect();
        verify_operation(spec, path, &sent)?;
    }
    if let Some(parent) = stream.parent()
        && self::stream(parent).is_none()
    {
        return Err(format!("there is no stream `{parent}`"));
    }
    let lists = component.properties.iter().filter(|(_, property)| property.is_list()).map(|(name, _)| name.as_str());
    for member in lists.filter(|member| columns::is_sent(stream, member)) {
        let is_inner = stream.inner.iter().any(|inner| inner.member == member);
        let feeds = streams()
            .any(|child| matches!(child.place, Place::Inside { parent, member: inside } if parent == stream.name && inside == member));
        if !is_inner && !feeds {
            return Err(format!("nothing completes the list `{member}`"));
        }
    }
    Ok(())
}
