# The same stack as site.yml makes, without the producer's service and the probe of the release, for `make bench` alone.
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "endpoint" {}
variable "access_key" {}
variable "secret_key" { sensitive = true }
variable "package" {}
variable "memory" { default = 256 }

locals {
  account   = "000000000000"
  region    = "us-east-1"
  function  = "ProcessFinancialStream"
  queue     = "FinancialTransactionQueue"
  table     = "RealTimeTransactions"
  producer  = "FinancialTransactionProducer"
  queue_arn = "arn:aws:sqs:${local.region}:${local.account}:${local.queue}"
  dlq_arn   = "${local.queue_arn}-dlq"
  tags      = { Pipeline = "financial-transactions", Environment = "default" }
  alarms = {
    dead-letters                = ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "Maximum", 0, 300, 1, "${local.queue}-dlq"]
    message-age                 = ["AWS/SQS", "ApproximateAgeOfOldestMessage", "Maximum", 300, 60, 1, local.queue]
    in-flight                   = ["AWS/SQS", "ApproximateNumberOfMessagesNotVisible", "Minimum", 180, 60, 3, local.queue]
    queue-half-retention        = ["AWS/SQS", "ApproximateAgeOfOldestMessage", "Maximum", 172800, 300, 1, local.queue]
    dead-letters-half-retention = ["AWS/SQS", "ApproximateAgeOfOldestMessage", "Maximum", 604800, 300, 1, "${local.queue}-dlq"]
    function-errors             = ["AWS/Lambda", "Errors", "Sum", 0, 300, 1, local.function]
    function-throttles          = ["AWS/Lambda", "Throttles", "Sum", 0, 300, 1, local.function]
    no-traffic                  = ["AWS/SQS", "NumberOfMessagesSent", "Sum", 1, 300, 1, local.queue]
  }
}

provider "aws" {
  region                      = local.region
  access_key                  = var.access_key
  secret_key                  = var.secret_key
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
  default_tags { tags = local.tags }
  endpoints {
    cloudwatch     = var.endpoint
    cloudwatchlogs = var.endpoint
    dynamodb       = var.endpoint
    ec2            = var.endpoint
    iam            = var.endpoint
    lambda         = var.endpoint
    sqs            = var.endpoint
    ssm            = var.endpoint
    sts            = var.endpoint
  }
}

# --- IAM
resource "aws_iam_policy" "producer" {
  name = "EC2-SQS-Role"
  policy = jsonencode({ Version = "2012-10-17", Statement = [
    { Effect = "Allow", Action = "sqs:SendMessage", Resource = local.queue_arn },
  ] })
}

resource "aws_iam_policy" "processor" {
  name = "Lambda-SQS-DynamoDB-Role"
  policy = jsonencode({ Version = "2012-10-17", Statement = [
    { Effect = "Allow", Action = ["sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"], Resource = local.queue_arn },
    { Effect = "Allow", Action = ["dynamodb:BatchGetItem", "dynamodb:PartiQLInsert", "dynamodb:PutItem"], Resource = aws_dynamodb_table.transactions.arn },
    { Effect = "Allow", Action = "sqs:SendMessage", Resource = local.dlq_arn },
    { Effect = "Allow", Action = ["logs:CreateLogStream", "logs:PutLogEvents"], Resource = "${aws_cloudwatch_log_group.processor.arn}:*" },
  ] })
}

resource "aws_iam_role" "producer" {
  name               = "EC2-SQS-Role"
  assume_role_policy = file("${path.module}/../../files/ec2-trust-policy.json")
}

resource "aws_iam_role" "processor" {
  name = "Lambda-SQS-DynamoDB-Role"
  assume_role_policy = jsonencode({ Version = "2012-10-17", Statement = [
    { Effect = "Allow", Principal = { Service = "lambda.amazonaws.com" }, Action = "sts:AssumeRole" },
  ] })
}

resource "aws_iam_role_policy_attachment" "producer" {
  role       = aws_iam_role.producer.name
  policy_arn = aws_iam_policy.producer.arn
}

resource "aws_iam_role_policy_attachment" "processor" {
  role       = aws_iam_role.processor.name
  policy_arn = aws_iam_policy.processor.arn
}

resource "aws_iam_instance_profile" "producer" {
  name = "EC2-SQS-Role"
  role = aws_iam_role.producer.name
}

# --- Table and queues
resource "aws_dynamodb_table" "transactions" {
  name           = local.table
  billing_mode   = "PROVISIONED"
  read_capacity  = 25
  write_capacity = 25
  hash_key       = "transaction_id"
  attribute {
    name = "transaction_id"
    type = "S"
  }
}

resource "aws_sqs_queue" "quarantine" {
  name                       = "${local.queue}-dlq"
  message_retention_seconds  = 1209600
  max_message_size           = 262144 # the most that this provider takes
  visibility_timeout_seconds = 30
  receive_wait_time_seconds  = 20
  sqs_managed_sse_enabled    = true
}

resource "aws_sqs_queue" "transactions" {
  name                       = local.queue
  message_retention_seconds  = 345600
  max_message_size           = 262144
  visibility_timeout_seconds = 185
  receive_wait_time_seconds  = 20
  sqs_managed_sse_enabled    = true
  redrive_policy             = jsonencode({ deadLetterTargetArn = aws_sqs_queue.quarantine.arn, maxReceiveCount = 21 })
}

# --- Function
resource "aws_cloudwatch_log_group" "processor" {
  name              = "/aws/lambda/${local.function}"
  retention_in_days = 7
}

resource "aws_lambda_function" "processor" {
  function_name    = local.function
  filename         = var.package
  source_code_hash = filebase64sha256(var.package)
  runtime          = "python3.13"
  handler          = "lambda_function.lambda_handler"
  role             = aws_iam_role.processor.arn
  memory_size      = var.memory
  timeout          = 30
  publish          = true
  environment {
    variables = {
      TABLE_NAME             = local.table
      DEAD_LETTER_QUEUE_URL  = aws_sqs_queue.quarantine.url
      HIGH_VALUE_THRESHOLD   = "10000"
      MEDIUM_VALUE_THRESHOLD = "1000"
    }
  }
  depends_on = [aws_iam_role_policy_attachment.processor, aws_cloudwatch_log_group.processor]
}

resource "aws_lambda_alias" "live" {
  name             = "live"
  function_name    = aws_lambda_function.processor.function_name
  function_version = aws_lambda_function.processor.version
}

resource "aws_lambda_event_source_mapping" "queue" {
  event_source_arn                   = aws_sqs_queue.transactions.arn
  function_name                      = aws_lambda_alias.live.arn
  batch_size                         = 10
  maximum_batching_window_in_seconds = 5
  function_response_types            = ["ReportBatchItemFailures"]
}

# --- Instance
data "aws_ssm_parameter" "image" {
  name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
}

resource "aws_security_group" "producer" {
  name        = local.producer
  description = "The producer sends over HTTPS, and the operator reaches it by SSH."
  egress {
    from_port   = 443
    to_port     = 443
    protocol    = "tcp"
    cidr_blocks = ["0.0.0.0/0"]
  }
}

resource "aws_instance" "producer" {
  ami                    = data.aws_ssm_parameter.image.value
  instance_type          = "t2.micro"
  iam_instance_profile   = aws_iam_instance_profile.producer.name
  vpc_security_group_ids = [aws_security_group.producer.id]
  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
  tags = { Name = local.producer }
  lifecycle { ignore_changes = [ami] }
}

# --- Alarms
resource "aws_cloudwatch_metric_alarm" "all" {
  for_each            = local.alarms
  alarm_name          = "${local.queue}/${each.key}"
  namespace           = each.value[0]
  metric_name         = each.value[1]
  statistic           = each.value[2]
  threshold           = each.value[3]
  period              = each.value[4]
  evaluation_periods  = each.value[5]
  comparison_operator = each.key == "no-traffic" ? "LessThanThreshold" : "GreaterThanThreshold"
  treat_missing_data  = each.key == "no-traffic" ? "breaching" : "notBreaching"
  dimensions          = each.value[0] == "AWS/Lambda" ? { FunctionName = each.value[6] } : { QueueName = each.value[6] }
}
