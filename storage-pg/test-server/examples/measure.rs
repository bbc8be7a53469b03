#![allow(clippy::all, missing_docs)]
use pg_test_server::*;
use std::time::Instant;
fn main() {
    let t = Instant::now();
    let s = Server::start(Options::default()).unwrap();
    println!("start {:?}", t.elapsed());
    let t = Instant::now();
    let f = Server::start(Options { fsync: true, ..Options::default() }).unwrap();
    println!("start fsync {:?}", t.elapsed());
    for (srv, what) in [(&s, "memory"), (&f, "fsync")] {
        let mk = || {
            srv.create_database_with("m", |url| {
                let db = url.rsplit('/').next().unwrap();
                for i in 0..40 {
                    srv.execute(
                        db,
                        &format!("create table t{i}(id bigint primary key, a text, b jsonb); create index on t{i}(a)"),
                    )?;
                }
                Ok(())
            })
            .unwrap()
        };
        let t = Instant::now();
        let first = mk();
        println!("{what} first (with template) {:?}", t.elapsed());
        drop(first);
        let n = 30;
        let t = Instant::now();
        let v: Vec<_> = (0..n).map(|_| mk()).collect();
        println!("{what} create {:?}", t.elapsed() / n);
        let t = Instant::now();
        drop(v);
        println!("{what} drop {:?}", t.elapsed() / n);
        let t = Instant::now();
        std::thread::scope(|sc| {
            for _ in 0..8 {
                sc.spawn(|| {
                    for _ in 0..8 {
                        mk();
                    }
                });
            }
        });
        println!("{what} create+drop, 8 threads x 8: {:?} each", t.elapsed() / 64);
        for strat in ["wal_log", "file_copy"] {
            let t = Instant::now();
            for i in 0..n {
                srv.execute("postgres", &format!("create database {strat}{i} template m strategy {strat}")).unwrap();
            }
            println!("{what} {strat} {:?}", t.elapsed() / n);
            let t = Instant::now();
            std::thread::scope(|sc| {
                for th in 0..8 {
                    sc.spawn(move || {
                        for i in 0..8 {
                            srv.execute(
                                "postgres",
                                &format!("create database {strat}x{th}x{i} template m strategy {strat}"),
                            )
                            .unwrap();
                        }
                    });
                }
            });
            println!("{what} {strat} 8 threads {:?} each", t.elapsed() / 64);
        }
        let t = Instant::now();
        for _ in 0..20 {
            srv.execute("postgres", "select 1").unwrap();
        }
        println!("{what} execute {:?}", t.elapsed() / 20);
    }
    let t = Instant::now();
    let b = PgBouncer::start(&s).unwrap();
    println!("bouncer {:?}", t.elapsed());
    let t = Instant::now();
    drop(b);
    println!("bouncer end {:?}", t.elapsed());
    let t = Instant::now();
    s.restart().unwrap();
    println!("restart {:?}", t.elapsed());
    let t = Instant::now();
    s.stop_immediate().unwrap();
    println!("stop {:?}", t.elapsed());
    let t = Instant::now();
    s.start_again().unwrap();
    println!("start_again {:?}", t.elapsed());
    let t = Instant::now();
    drop(s);
    println!("end {:?}", t.elapsed());
}
