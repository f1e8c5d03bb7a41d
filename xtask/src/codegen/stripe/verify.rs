//! Whether what the table of streams says is what the specification says.

use connector_stripe::tables::{
    Pages, Slices, Stripe, event_types, inside, lists, objects, owner, stream,
};
use pipeline_core::declarative::ListDef;

use super::super::openapi::{Property, Spec};
use super::columns;
use super::columns::TIMESTAMP;

/// Finds what the table says about a stream and the specification does not.
pub(super) fn verify(spec: &Spec, stream: &ListDef<Stripe>) -> Result<(), String> {
    let component = spec
        .components
        .schemas
        .get(stream.facts.object)
        .ok_or_else(|| format!("there is no object `{}`", stream.facts.object))?;
    verify_request(spec, stream)?;
    verify_object(component, stream)?;
    verify_expansions(spec, component, stream)?;
    verify_asked_for(component, stream)?;
    verify_inside(stream)?;
    verify_lists(spec, component, stream)
}

/// Finds a column that can only ever be null, because nobody asks for what it holds. Needs no
/// specification.
pub(super) fn verify_columns(stream: &ListDef<Stripe>) -> Result<(), String> {
    let schema = stream.streams[0].schema();
    let is_null = |name: &&str| {
        columns::includable(stream.facts.object).contains(name)
            && !stream.facts.expand.contains(name)
    };
    match schema
        .fields()
        .iter()
        .map(|field| &*field.name)
        .find(is_null)
    {
        Some(column) => Err(format!(
            "nothing asks for the column `{column}`, which would always be null"
        )),
        None => verify_inside(stream),
    }
}

/// What a stream's own list is asked for is asked for where its objects come inside others as well.
fn verify_inside(stream: &ListDef<Stripe>) -> Result<(), String> {
    let (Some(parent), Some(member)) = (stream.parent, stream.embedded) else {
        return Ok(());
    };
    let asked = self::stream(parent.list).map_or(&[][..], |parent| parent.facts.expand);
    match stream
        .facts
        .expand
        .iter()
        .map(|inner| format!("{member}.data.{inner}"))
        .find(|path| !asked.contains(&path.as_str()))
    {
        Some(path) => Err(format!("what it is inside of is not asked for `{path}`")),
        None => Ok(()),
    }
}

/// Every member that could be one of those that come only when they are asked for is known to be
/// one or not to be, and no discount, of which there is no list, is left as an id.
fn verify_asked_for(component: &Property, stream: &ListDef<Stripe>) -> Result<(), String> {
    for name in &component.expandable {
        let Some(property) = component.properties.get(name) else {
            continue;
        };
        if property.is_array_of("discount") && !stream.facts.expand.contains(&name.as_str()) {
            return Err(format!(
                "nothing expands the discounts in `{name}`, which are in no list"
            ));
        }
        let may_be_absent = !component.required.contains(name)
            && !property.nullable
            && property.expansion.is_none();
        let is_known = columns::includable(stream.facts.object).contains(&name.as_str())
            || columns::is_present(stream.facts.object, name);
        if may_be_absent && !property.is_array_of_references() && !is_known {
            return Err(format!(
                "it is not known whether `{name}` comes without being asked for"
            ));
        }
    }
    Ok(())
}

/// Finds an event that is asked for and does not exist. Stripe does not refuse such a name: it
/// sends nothing.
pub(super) fn verify_events(spec: &Spec) -> Result<(), String> {
    let known = spec.event_types();
    match event_types()
        .into_iter()
        .find(|name| !known.contains(name.as_str()))
    {
        Some(name) => Err(format!("there is no event `{name}`")),
        None => Ok(()),
    }
}

/// The list exists, takes what we send and needs nothing else.
fn verify_request(spec: &Spec, stream: &ListDef<Stripe>) -> Result<(), String> {
    let fixed = stream.params.iter().map(|(name, _)| *name);
    let filter = stream.cursor.map(|_| "created");
    let partition = match stream.slices {
        Some(Slices::EverBy(name, _) | Slices::By(name, _)) => Some(name),
        _ => None,
    };
    let expand = (!stream.facts.expand.is_empty()).then_some("expand");
    let paging = if stream.pages == Pages::AfterLast {
        &["limit", "starting_after"][..]
    } else {
        &[]
    };
    let sent: Vec<&str> = fixed
        .chain(filter)
        .chain(partition)
        .chain(expand)
        .chain(paging.iter().copied())
        .collect();
    verify_operation(spec, stream.path, &sent)?;
    let places = stream.path.matches('{').count();
    let named = stream
        .params
        .iter()
        .filter(|(_, value)| value.contains('{'))
        .count();
    if !stream
        .facts
        .objects
        .is_none_or(|list| spec.has_object(list))
    {
        return Err(format!(
            "there are no single objects of {}",
            objects(stream)
        ));
    }
    match stream.parent {
        None if places + named > 0 => Err("a list of the account names no parent".to_owned()),
        Some(_) if places > 1 || places + named == 0 => Err("the parent is not named".to_owned()),
        _ => Ok(()),
    }
}

/// A GET takes these query parameters and requires no others.
fn verify_operation(spec: &Spec, path: &str, sent: &[&str]) -> Result<(), String> {
    let get = spec
        .get(path)
        .ok_or_else(|| format!("GET {path} does not exist"))?;
    if let Some(required) = get
        .query()
        .find(|parameter| parameter.required && !sent.contains(&parameter.name.as_str()))
    {
        return Err(format!(
            "the list requires the parameter `{}`",
            required.name
        ));
    }
    match sent
        .iter()
        .find(|name| !get.takes().any(|known| known == **name))
    {
        Some(name) => Err(format!("the list does not take the parameter `{name}`")),
        None => Ok(()),
    }
}

/// The object has its key, and its cursor is a time.
fn verify_object(component: &Property, stream: &ListDef<Stripe>) -> Result<(), String> {
    let property = |name: &str| {
        component
            .properties
            .get(name)
            .ok_or_else(|| format!("the object has no member `{name}`"))
    };
    for member in stream.streams[0]
        .key
        .iter()
        .filter(|member| owner(stream) != Some(**member))
    {
        property(member)?;
    }
    if property("object")?.values != [stream.facts.object] {
        return Err(format!(
            "the object does not call itself `{}`",
            stream.facts.object
        ));
    }
    match stream.cursor {
        Some(cursor) if columns::data_type(property(cursor.field)?)? != TIMESTAMP => {
            Err(format!("the cursor `{}` is not a time", cursor.field))
        }
        _ => Ok(()),
    }
}

/// What is expanded can be: the first member by the object, what follows `data.` by the objects of
/// that list.
fn verify_expansions(
    spec: &Spec,
    component: &Property,
    stream: &ListDef<Stripe>,
) -> Result<(), String> {
    for path in stream.facts.expand {
        let (member, below) = path
            .split_once(".data.")
            .map_or((*path, None), |(member, below)| (member, Some(below)));
        let can = |component: &Property, member: &str| {
            component.expandable.iter().any(|known| known == member)
        };
        if !can(component, member) {
            return Err(format!("`{member}` cannot be expanded"));
        }
        let Some(below) = below else { continue };
        let child = inside(stream).find(|(_, known)| *known == member);
        let object = child.and_then(|(child, _)| spec.components.schemas.get(child.facts.object));
        if !object.is_some_and(|object| can(object, below)) {
            return Err(format!("`{path}` cannot be expanded"));
        }
    }
    Ok(())
}

/// Every list inside the object is read to its end: as a stream of its own, or by a request for the
/// rest.
fn verify_lists(spec: &Spec, component: &Property, stream: &ListDef<Stripe>) -> Result<(), String> {
    let of_it = |list: &&ListDef<Stripe>| {
        let owner = list.parent.filter(|_| list.embedded.is_some());
        owner.is_some_and(|owner| owner.list == stream.name)
    };
    for list in lists().filter(of_it).filter(|list| list.streams.is_empty()) {
        let sent: Vec<&str> = list
            .params
            .iter()
            .map(|(name, _)| *name)
            .chain(["limit", "starting_after"])
            .collect();
        verify_operation(spec, list.path, &sent)?;
    }
    let members = component
        .properties
        .iter()
        .filter(|(_, property)| property.is_list())
        .map(|(name, _)| name.as_str());
    for member in members.filter(|member| columns::is_sent(stream, member)) {
        if !lists()
            .filter(of_it)
            .any(|list| list.embedded == Some(member))
        {
            return Err(format!("nothing completes the list `{member}`"));
        }
    }
    Ok(())
}
