"""PartiQL is authorised statement by statement, as AWS does."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError
from users import User

ARN = "arn:aws:dynamodb:us-east-1:000000000000:table"
TABLE, OTHER = "partiql-own", "partiql-other"


@pytest.fixture(scope="module")
def tables(embedded_cloud):
    for name in (TABLE, OTHER):
        embedded_cloud.client("dynamodb").create_table(
            TableName=name,
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )


@pytest.fixture
def client_with(embedded_cloud, tables):
    """A DynamoDB client of a new user who has just the given actions, on TABLE unless told otherwise."""

    def make(*actions: str, resource: str = f"{ARN}/{TABLE}"):
        return User(embedded_cloud, {"Action": list(actions), "Resource": resource}).client("dynamodb")

    return make


def insert(key: str, table: str = TABLE) -> dict:
    return {"Statement": f"INSERT INTO \"{table}\" VALUE {{'id': ?}}", "Parameters": [{"S": key}]}


STATEMENTS = {
    "dynamodb:PartiQLInsert": insert("single"),
    "dynamodb:PartiQLSelect": {"Statement": f"SELECT * FROM \"{TABLE}\" WHERE id = 'x'"},
    "dynamodb:PartiQLUpdate": {"Statement": f"UPDATE \"{TABLE}\" SET seen = 1 WHERE id = 'kept'"},
    "dynamodb:PartiQLDelete": {"Statement": f"DELETE FROM \"{TABLE}\" WHERE id = 'gone'"},
}


@pytest.mark.parametrize("action", STATEMENTS)
def test_a_statement_is_allowed_by_its_own_action(embedded_cloud, client_with, action):
    embedded_cloud.client("dynamodb").put_item(TableName=TABLE, Item={"id": {"S": "kept"}})
    client_with(action).execute_statement(**STATEMENTS[action])


@pytest.mark.parametrize("action", STATEMENTS)
def test_a_statement_is_denied_by_every_other_permission(client_with, action):
    client = client_with(*(set(STATEMENTS) - {action}), "dynamodb:ExecuteStatement", "dynamodb:*Item")
    with pytest.raises(ClientError, match=f"AccessDenied.*{action}"):
        client.execute_statement(**STATEMENTS[action])


def test_a_batch_is_carried_out_with_the_statements_permission(embedded_cloud, client_with):
    answer = client_with("dynamodb:PartiQLInsert").batch_execute_statement(Statements=[insert("b1"), insert("b2")])
    assert ["Error" in response for response in answer["Responses"]] == [False, False]
    assert embedded_cloud.client("dynamodb").get_item(TableName=TABLE, Key={"id": {"S": "b2"}})["Item"]


def test_a_denied_statement_of_a_batch_is_reported_in_its_place_and_the_rest_carried_out(client_with):
    client = client_with("dynamodb:PartiQLInsert")
    answer = client.batch_execute_statement(Statements=[insert("c1"), insert("c2", OTHER), insert("c3"), insert("c1")])
    codes = [response.get("Error", {}).get("Code") for response in answer["Responses"]]
    assert codes == [None, "AccessDenied", None, "DuplicateItem"]
    assert f"{ARN}/{OTHER}" in answer["Responses"][1]["Error"]["Message"]


def test_permission_for_the_operation_itself_grants_no_statement(embedded_cloud, client_with):
    answer = client_with("dynamodb:BatchExecuteStatement", resource="*").batch_execute_statement(Statements=[insert("d1")])
    assert [response["Error"]["Code"] for response in answer["Responses"]] == ["AccessDenied"]
    assert "Item" not in embedded_cloud.client("dynamodb").get_item(TableName=TABLE, Key={"id": {"S": "d1"}})


def test_a_statement_that_cannot_be_read_is_a_validation_error(client_with):
    answer = client_with("dynamodb:PartiQLInsert").batch_execute_statement(Statements=[{"Statement": "INSERT INTO"}, insert("e1")])
    assert [response.get("Error", {}).get("Code") for response in answer["Responses"]] == ["ValidationError", None]


def test_a_transaction_needs_every_statements_permission(embedded_cloud, client_with):
    client = client_with("dynamodb:PartiQLInsert")
    with pytest.raises(ClientError, match=r"AccessDenied.*PartiQLDelete"):
        client.execute_transaction(TransactStatements=[insert("f1"), STATEMENTS["dynamodb:PartiQLDelete"]])
    assert "Item" not in embedded_cloud.client("dynamodb").get_item(TableName=TABLE, Key={"id": {"S": "f1"}})


def test_a_batch_with_a_wrong_secret_is_refused_whole(embedded_cloud, tables):
    with pytest.raises(ClientError, match="InvalidSignature"):
        embedded_cloud.client("dynamodb", secret_key="wrong").batch_execute_statement(Statements=[insert("g1")])
