//! The kernel's routes out of an interface, by netlink (man 7 rtnetlink).

use std::net::IpAddr;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteNextHop, RouteType, RouteVia,
};

use super::FactsError;
use crate::network::route::{MAX_ROUTES, Route};
use crate::wire::ip::IpAddress;

/// Reads the routes of the main table that lead out of the interface with this index, of both families. Of more than
/// [`MAX_ROUTES`] it gives one more than that, lest a table of the whole Internet be read again and again. Must run on
/// a tokio runtime.
///
/// # Errors
/// [`FactsError`].
pub async fn main_table(index: u32) -> Result<Vec<Route>, FactsError> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    let connection = tokio::spawn(connection);
    let mut routes = Vec::new();
    let mut result = Ok(());
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        result = read(&handle, family, index, &mut routes).await;
        if result.is_err() {
            break;
        }
    }
    connection.abort();
    result.map(|()| routes)
}

async fn read(
    handle: &rtnetlink::Handle,
    family: AddressFamily,
    index: u32,
    routes: &mut Vec<Route>,
) -> Result<(), FactsError> {
    let mut request = RouteMessage::default();
    request.header.address_family = family;
    let mut answers = handle.route().get(request).execute();
    while let Some(message) = answers.try_next().await? {
        // A kernel without IPv6 answers with what it has.
        if message.header.address_family == family
            && let Some(route) = route(&message, index)
        {
            routes.push(route);
            if routes.len() > MAX_ROUTES {
                break;
            }
        }
    }
    Ok(())
}

/// What a message says, if it is about a route of the main table to somewhere out of the interface.
pub(super) fn route(message: &RouteMessage, index: u32) -> Option<Route> {
    let RouteHeader { destination_prefix_length: len, source_prefix_length, tos, table, kind, .. } = message.header;
    let mut table = u32::from(table);
    let mut destination: Option<IpAddr> = None;
    let (mut metric, mut source, mut mtu) = (0, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Destination(address) => destination = Some(ip(address)?),
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::PrefSource(address) => source = ip(address).map(IpAddress::from),
            RouteAttribute::Metrics(metrics) => mtu = mtu_of(metrics, message.header.address_family),
            _ => {}
        }
    }
    // A route for some sources or classes only would be followed by all.
    let is_for_all = source_prefix_length == 0 && tos == 0;
    if table != u32::from(RouteHeader::RT_TABLE_MAIN) || kind != RouteType::Unicast || !is_for_all {
        return None;
    }
    let gateway = way(&message.attributes, index)?;
    let unspecified = match message.header.address_family {
        AddressFamily::Inet => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let destination = IpNet::new(destination.unwrap_or(unspecified), len).ok()?;
    Some(Route { destination, gateway, source, metric, mtu })
}

/// The gateway of a route that leads out of the interface: of several ways the first one that does. `Some(None)`: the
/// destinations are on the link.
fn way(attributes: &[RouteAttribute], index: u32) -> Option<Option<IpAddress>> {
    let mut out = false;
    let mut gateway = None;
    for attribute in attributes {
        match attribute {
            RouteAttribute::Oif(oif) => out = *oif == index,
            RouteAttribute::Gateway(address) => gateway = Some(ip(address)?.into()),
            RouteAttribute::Via(RouteVia::Inet(address)) => gateway = Some((*address).into()),
            RouteAttribute::Via(RouteVia::Inet6(address)) => gateway = Some((*address).into()),
            RouteAttribute::MultiPath(hops) => {
                return hops.iter().find_map(|RouteNextHop { interface_index, attributes, .. }| {
                    let oif = [RouteAttribute::Oif(*interface_index)];
                    way(&[&oif, &attributes[..]].concat(), index)
                });
            }
            _ => {}
        }
    }
    out.then_some(gateway)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// RFC 791, section 3.2: every internet module must be able to forward a datagram of 68 octets. RFC 8200, section 5: IPv6
/// requires that every link in the Internet have an MTU of 1280 octets or greater.
const fn least_mtu(family: AddressFamily) -> u16 {
    if matches!(family, AddressFamily::Inet6) { 1280 } else { 68 }
}

fn mtu_of(metrics: &[RouteMetric], family: AddressFamily) -> Option<u16> {
    let mtu = metrics.iter().find_map(|metric| if let RouteMetric::Mtu(mtu) = metric { Some(*mtu) } else { None });
    // A larger one limits nothing.
    mtu.and_then(|mtu| u16::try_from(mtu).ok()).map(|mtu| mtu.max(least_mtu(family)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: u32 = 4;

    fn v4(text: &str) -> RouteAddress {
        RouteAddress::Inet(text.parse().unwrap())
    }

    fn message(len: u8, attributes: Vec<RouteAttribute>) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.destination_prefix_length = len;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.kind = RouteType::Unicast;
        message.attributes = attributes;
        message
    }

    fn ours() -> Vec<RouteAttribute> {
        vec![RouteAttribute::Destination(v4("192.0.2.0")), RouteAttribute::Oif(OURS)]
    }

    fn with(more: RouteAttribute) -> Option<Route> {
        route(&message(24, [ours(), vec![more]].concat()), OURS)
    }

    #[test]
    fn routes_come_with_all_that_is_said_of_them() {
        let connected = Route::connected("192.0.2.0/24".parse().unwrap());
        assert_eq!(route(&message(24, ours()), OURS), Some(connected));
        let gateway = IpAddress::v4([10, 0, 0, 1].into());
        let via = Route { gateway: Some(gateway), ..connected };
        assert_eq!(with(RouteAttribute::Gateway(v4("10.0.0.1"))), Some(via));
        let v6 = "fe80::1".parse().unwrap();
        let via_v6 = Route { gateway: Some(IpAddress::v6(v6)), ..connected };
        assert_eq!(with(RouteAttribute::Via(RouteVia::Inet6(v6))), Some(via_v6));
        assert_eq!(with(RouteAttribute::Priority(7)), Some(Route { metric: 7, ..connected }));
        assert_eq!(
            with(RouteAttribute::PrefSource(v4("10.0.0.1"))),
            Some(Route { source: Some(gateway), ..connected })
        );
        let mtu = RouteAttribute::Metrics(vec![RouteMetric::Advmss(1), RouteMetric::Mtu(1400)]);
        assert_eq!(with(mtu), Some(Route { mtu: Some(1400), ..connected }));
        let tiny = RouteAttribute::Metrics(vec![RouteMetric::Mtu(1)]);
        assert_eq!(with(tiny), Some(Route { mtu: Some(68), ..connected }));
        let default = [RouteAttribute::Gateway(v4("10.0.0.1")), RouteAttribute::Oif(OURS)];
        assert_eq!(route(&message(0, default.into()), OURS), Some(Route::default_via(gateway)));
    }

    #[test]
    fn of_several_ways_the_one_out_of_the_interface_is_taken() {
        let hop = |interface: u32, gateway: &str| {
            let mut hop = RouteNextHop::default();
            hop.interface_index = interface;
            hop.attributes = vec![RouteAttribute::Gateway(v4(gateway))];
            hop
        };
        let ways =
            |hops| message(24, vec![RouteAttribute::Destination(v4("192.0.2.0")), RouteAttribute::MultiPath(hops)]);
        let found = route(&ways(vec![hop(9, "10.9.0.1"), hop(OURS, "10.0.0.1")]), OURS).unwrap();
        assert_eq!(found.gateway, Some(IpAddress::v4([10, 0, 0, 1].into())));
        assert_eq!(route(&ways(vec![hop(9, "10.9.0.1")]), OURS), None);
    }

    #[test]
    fn what_is_not_for_everybody_out_of_the_interface_is_left_out() {
        assert_eq!(route(&message(24, ours()), 9), None, "another interface");
        assert_eq!(with(RouteAttribute::Table(100)), None, "another table");
        let mut local = message(24, ours());
        local.header.kind = RouteType::Local;
        assert_eq!(route(&local, OURS), None);
        let mut of_a_source = message(24, ours());
        of_a_source.header.source_prefix_length = 8;
        assert_eq!(route(&of_a_source, OURS), None);
        assert_eq!(route(&message(33, ours()), OURS), None, "no such prefix");
    }
}
