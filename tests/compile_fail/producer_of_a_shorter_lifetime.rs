fn shorten<'a>(tx: pelton::ring::Producer<&'static str>) -> pelton::ring::Producer<&'a str> {
    tx
}

fn main() {
    let _ = shorten;
}
