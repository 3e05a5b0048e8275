//! What a listener, or whoever connects, wants a connection to begin with: it is kept on every way
//! there is to begin.

use millrace_base::Nanos;
use millrace_stack::{
    CongestionControl, FastOpenListen, FlowId, ListenOptions, Listener, Profile, Ready, Route,
    RouteAttributes, StackConfig,
};
use millrace_wire::TcpFlags;
use millrace_wire::tcp::FastOpenCookie;

use crate::peer::{ACK, Peer, RST, SYN};
use crate::wire::{World, address, config, default_route, listener, tuple};

const FIN: TcpFlags = TcpFlags::FIN;

/// What is not the default.
const OTHER: CongestionControl = CongestionControl::Reno;

fn profile() -> Profile {
    assert_ne!(CongestionControl::default(), OTHER);
    Profile {
        congestion_control: Some(OTHER),
    }
}

/// Sets the profile of the peer's listener.
fn listen(peer: &mut Peer, profile: Profile) {
    let row = Listener {
        options: ListenOptions {
            profile,
            fastopen: FastOpenListen {
                queue_max: 8,
                ..FastOpenListen::default()
            },
            ..ListenOptions::default()
        },
        ..listener(1, peer.tuple.remote.address, 80)
    };
    peer.world.nodes[1].stack.set_listeners(&[row]);
}

fn peer(setting: impl Fn(&mut StackConfig)) -> Peer {
    let mut config = config(2);
    setting(&mut config);
    let mut peer = Peer::with(10, config);
    listen(&mut peer, profile());
    peer
}

/// The algorithm of the last connection that the server has accepted.
fn accepted(peer: &Peer) -> CongestionControl {
    let node = &peer.world.nodes[1];
    let is_new = |event: &&millrace_stack::Event| event.ready.contains(Ready::ACCEPTED);
    let event = node.events.iter().rev().find(is_new);
    control_of(&peer.world, 1, event.expect("accepted").flow)
}

fn control_of(world: &World, node: usize, flow: FlowId) -> CongestionControl {
    let info = world.nodes[node].stack.info(flow);
    info.expect("alive").congestion_control
}

#[test]
fn a_handshake_ends_in_what_its_listener_wants() {
    let mut peer = peer(|_| ());
    peer.open();
    assert_eq!(accepted(&peer), OTHER);
}

#[test]
fn a_cookie_that_comes_back_is_a_connection_as_its_listener_wants() {
    let mut peer = peer(|config| config.tcp.tcp_syncookies = 2);
    peer.open();
    assert_eq!(peer.stats().syncookies_recv, 1);
    assert_eq!(accepted(&peer), OTHER);
}

#[test]
fn data_in_a_syn_makes_a_connection_as_its_listener_wants() {
    let mut peer = peer(|config| config.tcp.tcp_fastopen = 3);
    peer.cookie = Some(FastOpenCookie::default());
    peer.cookie = peer.send(SYN, 100, 0, b"")[0].options.fastopen;
    assert!(peer.send(RST, 101, 0, b"").is_empty());
    assert_eq!(peer.send(SYN, 100, 0, b"hello")[0].ack.value(), 106);
    assert_eq!(peer.stats().tcp_fast_open_passive, 1);
    assert_eq!(accepted(&peer), OTHER);
}

#[test]
fn a_tuple_that_is_opened_again_is_a_connection_as_its_listener_wants_now() {
    let mut peer = peer(|_| ());
    let (flow, nxt) = peer.open();
    peer.world.nodes[1].stack.close(peer.world.now, flow);
    assert!(peer.answers()[0].flags.fin());
    peer.send(ACK | FIN, 101, nxt.wrapping_add(1), b"");
    assert_eq!(peer.world.nodes[1].stack.occupancy().time_wait, 1);
    for (wanted, expected) in [
        (profile(), OTHER),
        (Profile::default(), CongestionControl::default()),
    ] {
        listen(&mut peer, wanted);
        let nxt = peer.syn(5_000).wrapping_add(1);
        peer.send(ACK, 5_001, nxt, b"");
        assert_eq!(accepted(&peer), expected);
        peer.send(RST, 5_001, nxt, b"");
    }
    assert_eq!(peer.stats().tw_recycled, 1);
}

// A table that is replaced changes what comes, not what is there.
#[test]
fn a_connection_keeps_what_it_began_with_when_its_listener_changes_its_mind() {
    let mut peer = peer(|_| ());
    let (flow, _) = peer.open();
    listen(&mut peer, Profile::default());
    assert_eq!(control_of(&peer.world, 1, flow), OTHER);
    peer.tuple.local.port += 1;
    peer.open();
    assert_eq!(accepted(&peer), CongestionControl::default());
    // Another row of the table has no part in it, and a table without profiles leaves none behind.
    listen(&mut peer, profile());
    let plain = listener(1, peer.tuple.remote.address, 80);
    peer.world.nodes[1].stack.set_listeners(&[plain]);
    peer.tuple.local.port += 1;
    peer.open();
    assert_eq!(accepted(&peer), CongestionControl::default());
}

/// A connection of the client (node 0) to the server, and both its ends.
fn connected(world: &mut World, profile: Profile) -> (FlowId, FlowId) {
    let flow = tuple(address(false, 0, 1), 40_000, address(false, 0, 2), 80);
    world.nodes[1].events.clear();
    let client = world.nodes[0]
        .stack
        .connect_as(world.now, flow, 0, profile)
        .expect("connects");
    world.run_until(1_000, |world| world.accepted(1).is_some());
    (client, world.accepted(1).expect("accepted"))
}

// The record's place is taken by a connection that is made a second time, with what it inherits.
#[test]
fn whoever_connects_has_its_way_also_where_a_time_wait_record_gives_way() {
    let mut world = World::chain(1, 2);
    let server = address(false, 0, 2);
    world.nodes[1]
        .stack
        .set_listeners(&[listener(1, server, 80)]);
    for round in 0..2 {
        let (client, accepted) = connected(&mut world, profile());
        assert_eq!(control_of(&world, 0, client), OTHER, "round {round}");
        let other_end = control_of(&world, 1, accepted);
        assert_eq!(other_end, CongestionControl::default());
        world.nodes[0].stack.close(world.now, client);
        world.run_for(100);
        world.nodes[1].stack.close(world.now, accepted);
        world.run_for(100);
        assert_eq!(world.nodes[0].stack.occupancy().time_wait, 1);
        world.now = world.now.after(Nanos::from_millis(1_500));
    }
    assert_eq!(world.nodes[0].stack.stats().tw_recycled, 1);
}

// What a profile leaves open is the route's to say.
#[test]
fn a_profile_lies_over_the_attributes_of_the_route() {
    let mut world = World::chain(1, 2);
    let (client, server) = (address(false, 0, 1), address(false, 0, 2));
    world.nodes[1].stack.set_listeners(&[Listener {
        options: ListenOptions {
            profile: profile(),
            ..ListenOptions::default()
        },
        ..listener(1, server, 80)
    }]);
    for (node, port, via) in [(0, 1, server), (1, 0, client)] {
        let route = Route {
            attributes: RouteAttributes {
                initial_cwnd: 23,
                ..RouteAttributes::default()
            },
            ..default_route(port, via)
        };
        world.nodes[node].stack.set_routes(&[route]);
    }
    let far = millrace_base::Address::v4([192, 0, 2, 1]);
    world.nodes[0].stack.set_local_addresses(&[far]);
    let flow = tuple(far, 40_000, server, 80);
    let client = world.nodes[0]
        .stack
        .connect_as(world.now, flow, 0, profile());
    let client = client.expect("connects");
    world.run_until(1_000, |world| world.accepted(1).is_some());
    let accepted = world.accepted(1).expect("accepted");
    assert_eq!(control_of(&world, 0, client), OTHER);
    assert_eq!(control_of(&world, 1, accepted), OTHER);
    let info = world.nodes[1].stack.info(accepted).expect("alive");
    assert_eq!(info.cwnd_bytes / u32::from(info.mss), 23);
}
