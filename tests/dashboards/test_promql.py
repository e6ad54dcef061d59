"""The reader of expressions, on texts as Prometheus formats them."""

from tests.dashboards.promql import Selector, groupings, selectors

DEPTH = Selector("fleet_queue_depth", (("queue", "!=", '"embeddings"'),))
TOKENS = Selector("fleet_queue_tokens", (("queue", "=", '"embeddings"'),))
WAITS = """\
  max by (namespace, queue) (fleet_queue_depth{queue!="embeddings"}) > 0
unless on (namespace)
  max by (namespace) (min_over_time(fleet_queue_tokens{queue="embeddings"}[30m:1m])) > 1e+07"""


def test_selectors_are_found_with_their_matchers() -> None:
    assert selectors(WAITS) == [DEPTH, TOKENS]
    assert TOKENS.text() == 'fleet_queue_tokens{queue="embeddings"}'


def test_nothing_else_is_taken_for_a_selector() -> None:
    text = 'time() - (absent(up) > bool inf) or label_join(a:b offset 5m, "x", "(", "c{q=") and vector(0)'
    assert selectors(text) == [Selector("up"), Selector("a:b")]
    assert selectors('x{a=~"b{2}\\"}|(c"}') == [Selector("x", (("a", "=~", '"b{2}\\"}|(c"'),))]


def test_labels_are_those_of_what_is_in_the_brackets() -> None:
    by_queue, joined, by_namespace = groupings(WAITS)
    assert (by_queue.labels, by_queue.selectors) == ({"namespace", "queue"}, {DEPTH})
    assert (by_namespace.labels, by_namespace.selectors) == ({"namespace"}, {TOKENS})
    assert (joined.labels, joined.selectors) == ({"namespace"}, {DEPTH, TOKENS})


def test_an_aggregation_within_another_is_told_from_it() -> None:
    text = 'histogram_quantile(0.95, sum by (le) (rate(a_bucket{x=")"}[5m]))) / sum by (pod) (b)'
    assert [(sorted(one.labels), sorted(s.metric for s in one.selectors)) for one in groupings(text)] == [
        (["le"], ["a_bucket"]),
        (["pod"], ["b"]),
    ]
