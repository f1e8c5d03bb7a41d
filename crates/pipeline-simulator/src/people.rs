//! One list of people for all three vendors: the nth customer, the nth user and the nth profile are
//! the same person with the same e-mail address, so that joining two vendors' tables gives
//! something.

use std::io::Write as _;

use crate::world::choice;

/// What a template may say about a person.
#[derive(Clone, Copy)]
pub(crate) enum Field {
    First,
    Last,
    Name,
    Email,
    Phone,
    City,
    Country,
    Line1,
    Postal,
}

impl Field {
    /// The field by its name in a template; a name that isn't known is the full name.
    pub(crate) fn named(name: &str) -> Field {
        match name {
            "first" => Field::First,
            "last" => Field::Last,
            "email" => Field::Email,
            "phone" => Field::Phone,
            "city" => Field::City,
            "country" => Field::Country,
            "line1" => Field::Line1,
            "postal" => Field::Postal,
            _ => Field::Name,
        }
    }
}

const FIRST: [&str; 24] = [
    "Ana", "Bram", "Chidi", "Daria", "Emre", "Farah", "Gita", "Hugo", "Ines", "Jonas", "Keiko",
    "Lars", "Maya", "Nils", "Olga", "Pedro", "Quinn", "Rosa", "Sami", "Tessa", "Umar", "Vera",
    "Wout", "Yara",
];
const LAST: [&str; 20] = [
    "Reis", "Bakker", "Okafor", "Ivanova", "Yilmaz", "Haddad", "Rao", "Martin", "Costa", "Berg",
    "Sato", "Nilsen", "Cohen", "Larsson", "Petrova", "Alves", "Murphy", "Garcia", "Salem", "Vos",
];
const PLACES: [(&str, &str, &str); 8] = [
    ("Porto", "PT", "Rua das Flores"),
    ("Utrecht", "NL", "Oudegracht"),
    ("Lagos", "NG", "Broad Street"),
    ("Zürich", "CH", "Bahnhofstrasse"),
    ("São Paulo", "BR", "Rua Augusta"),
    ("Austin", "US", "Congress Avenue"),
    ("Osaka", "JP", "Midosuji"),
    ("Lyon", "FR", "Rue Mercière"),
];

/// Appends one fact about the nth person.
pub(crate) fn write(person: u64, field: Field, out: &mut Vec<u8>) {
    let first = FIRST[choice(person, FIRST.len())];
    let last = LAST[choice(person / FIRST.len() as u64, LAST.len())];
    let (city, country, street) = PLACES[choice(person / 3, PLACES.len())];
    // Writing to a vector can't fail.
    let _ = match field {
        Field::First => out.write_all(first.as_bytes()),
        Field::Last => out.write_all(last.as_bytes()),
        Field::Name => write!(out, "{first} {last}"),
        Field::Email => {
            let (first, last) = (first.to_ascii_lowercase(), last.to_ascii_lowercase());
            write!(out, "{first}.{last}{person}@example.com")
        }
        Field::Phone => write!(out, "+1555{:07}", person % 10_000_000),
        Field::City => out.write_all(city.as_bytes()),
        Field::Country => out.write_all(country.as_bytes()),
        Field::Line1 => write!(out, "{street} {}", person % 200 + 1),
        Field::Postal => write!(out, "{:05}", person * 37 % 100_000),
    };
}
