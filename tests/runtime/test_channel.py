from kombu import Connection

from embedfleet.local.redis import RedisServer
from embedfleet.runtime import channel as module
from embedfleet.runtime.ledger.redis_client import connect


def test_the_calls_of_a_channel_share_a_client_until_its_connections_broke(empty_redis: RedisServer) -> None:
    module.install()
    with Connection(empty_redis.url) as connection:
        channel = connection.channel()
        with channel.conn_or_acquire() as first, channel.conn_or_acquire() as second:
            assert first is second
        channel._disconnect_pools()  # as kombu does when a connection of it is lost
        with channel.conn_or_acquire() as third:
            assert third.connection_pool is not first.connection_pool
            assert third.ping()


def test_a_client_that_is_given_is_used(empty_redis: RedisServer) -> None:
    module.install()
    mine = connect(empty_redis.url)
    with Connection(empty_redis.url) as connection, connection.channel().conn_or_acquire(mine) as client:
        assert client is mine
    mine.close()
