//! A panic, which sets the hook of its whole process: so it is alone here.

use rootbuild::{bug, exit};

#[test]
fn a_panic_ends_as_a_defect_with_its_own_exit_code() {
    assert_eq!(bug::guarded(|| panic!("the impossible happened")), exit::BUG);
    assert_eq!(bug::guarded(|| 5), 5);
}
